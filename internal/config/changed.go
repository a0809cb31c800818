package config

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ChangedKeys names the keys of which the sources say something else now than when
// saved was loaded. A value from a source that is gone for good reason (a
// credential, user-data, a URL; an interactive shell sees none of them) is not
// compared. Sources that cannot be understood any more come back as Problems.
func ChangedKeys(ctx context.Context, o Options, saved *Loaded) ([]string, error) {
	l := &loader{ctx: ctx, options: o, tree: tree{filepath.Clean("/" + o.Root)}}
	if err := l.readSources(); err != nil {
		// Most likely a configuration by URL, and this needs no network.
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

// originLine is the position at the end of an origin.
var originLine = regexp.MustCompile(`:\d+:\d+$`)

// lasting tells the sources that can only be absent because someone removed
// them.
func isPermanentSource(source string, files []string) bool {
	return source == "" || source == "default" || source == MainFile || slices.Contains(files, source) ||
		strings.HasPrefix(source, VendorDir+"/") || strings.HasPrefix(source, DropInDir+"/")
}

// differing lists the keys with other values in now, of those whose saved
// origin counts.
func compareValues(saved *Loaded, now *Config, counts func(origin string) bool) []string {
	was, is := map[string]string{}, map[string]string{}
	for _, s := range flatten(saved.Config) {
		was[s.path] = encode(s.value, reveal)
	}
	var keys []string
	for _, s := range flatten(now) {
		is[s.path] = encode(s.value, reveal)
		if was[s.path] != is[s.path] && counts(saved.Origins[s.path]) {
			keys = append(keys, s.path)
		}
	}
	for path := range was {
		if _, there := is[path]; !there && counts(saved.Origins[path]) {
			keys = append(keys, path)
		}
	}
	slices.Sort(keys)
	return keys
}
