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
	written, present := layer{}, map[string]bool{}
	var problems Problems
	for _, d := range l.decoded {
		written, problems = merge(written, d.layer), append(problems, d.problems...)
		present[d.source.Name] = true
	}
	if len(problems) > 0 {
		return nil, problems
	}
	now := merge(defaults(), written)
	return saved.compare(now, func(path string) bool {
		_, isWritten := written[path]
		source := saved.SourceOf(path)
		if source == "" || source == defaultSource {
			return isWritten // otherwise a default changed: see ChangedDefaults
		}
		return present[source] || isPermanentSource(source, o.Files)
	}), nil
}

// ChangedDefaults returns the keys that no source sets and that have other values
// than in this firstboot's defaults. They are what an upgrade changes, as soon as
// the configuration is loaded again.
func (l *Loaded) ChangedDefaults() []string {
	return l.compare(defaults(), func(path string) bool {
		origin := l.Origins[path]
		return origin == "" || origin == defaultSource
	})
}

// originLine matches the position at the end of an origin.
var originLine = regexp.MustCompile(`:\d+:\d+$`)

// isPermanentSource reports whether a source can only be missing because
// someone removed it.
func isPermanentSource(source string, files []string) bool {
	return source == MainFile || slices.Contains(files, source) ||
		strings.HasPrefix(source, VendorDir+"/") || strings.HasPrefix(source, DropInDir+"/")
}

// compare returns the keys whose values differ between l and now, if include
// accepts the key.
func (l *Loaded) compare(now layer, include func(path string) bool) []string {
	was := map[string]string{}
	for _, s := range flatten(l.Config) {
		was[s.path] = encode(s.value, reveal)
	}
	var keys []string
	for path, v := range now {
		if old, ok := was[path]; (!ok || old != encode(v.data, reveal)) && include(path) {
			keys = append(keys, path)
		}
	}
	for path := range was {
		if _, ok := now[path]; !ok && include(path) {
			keys = append(keys, path)
		}
	}
	slices.Sort(keys)
	return keys
}
