package config

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ChangedKeys returns the keys whose values in the sources have changed since
// saved was loaded. It does not compare values from sources that an interactive
// shell cannot read: a credential, user-data or a URL. If a source is invalid
// now, the error is of type Problems.
func ChangedKeys(ctx context.Context, o Options, saved *Loaded) ([]string, error) {
	l := &loader{ctx: ctx, options: o, tree: tree{filepath.Clean("/" + o.Root)}}
	if err := l.readSources(); err != nil {
		// Probably a configuration by URL, which cannot be fetched here.
		o.NoCmdline = true
		l = &loader{ctx: ctx, options: o, tree: l.tree}
		if err := l.readSources(); err != nil {
			return nil, err
		}
	}
	layers, present := []layer{defaults()}, map[string]bool{}
	var problems Problems
	for _, d := range l.decoded {
		layers, problems = append(layers, d.layer), append(problems, d.problems...)
		present[d.source.Name] = true
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return compareValues(saved, merge(layers...).config(), func(origin string) bool {
		source := originLine.ReplaceAllString(origin, "")
		return present[source] || isPermanentSource(source, o.Files)
	}), nil
}

// originLine matches the position at the end of an origin.
var originLine = regexp.MustCompile(`:\d+:\d+$`)

// isPermanentSource reports whether a source can only be missing because
// someone removed it.
func isPermanentSource(source string, files []string) bool {
	return source == "" || source == "default" || source == MainFile || slices.Contains(files, source) ||
		strings.HasPrefix(source, VendorDir+"/") || strings.HasPrefix(source, DropInDir+"/")
}

// compareValues returns the keys whose values differ between saved and now, if
// compare accepts the saved origin.
func compareValues(saved *Loaded, now *Config, compare func(origin string) bool) []string {
	was, is := map[string]string{}, map[string]string{}
	for _, s := range flatten(saved.Config) {
		was[s.path] = encode(s.value, reveal)
	}
	var keys []string
	for _, s := range flatten(now) {
		is[s.path] = encode(s.value, reveal)
		if was[s.path] != is[s.path] && compare(saved.Origins[s.path]) {
			keys = append(keys, s.path)
		}
	}
	for path := range was {
		if _, ok := is[path]; !ok && compare(saved.Origins[path]) {
			keys = append(keys, path)
		}
	}
	slices.Sort(keys)
	return keys
}
