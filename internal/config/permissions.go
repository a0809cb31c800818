package config

import (
	"os"
	"slices"
	"strings"
)

// exposed warns of files that give secrets away, or that anyone may change:
// what they say is done as root.
func (l *loader) checkPermissions(merged layer) Problems {
	var warnings Problems
	for _, d := range l.decoded {
		info, err := l.stat(d.source.Name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		at := position{source: d.source.Name}
		if info.Mode().Perm()&0o002 != 0 {
			warnings = append(warnings, at.problem("", "can be changed by every user", "chmod 600"))
		}
		if info.Mode().Perm()&0o004 != 0 && holdsSecret(merged, d.source.Name) {
			warnings = append(warnings, at.problem("", "holds secrets that every user can read", "chmod 600"))
		}
	}
	return warnings
}

// stat looks at a source that is a file: below the root, or as named by
// --config.
func (l *loader) stat(name string) (os.FileInfo, error) {
	if slices.Contains(l.options.Files, name) {
		return os.Stat(name)
	}
	if !strings.HasPrefix(name, "/") {
		return nil, os.ErrNotExist
	}
	full, err := l.tree.path(name)
	if err != nil {
		return nil, err
	}
	return os.Stat(full)
}

// holdsSecret tells whether a value of the source shows differently from what
// it is.
func holdsSecret(l layer, source string) bool {
	for _, v := range l {
		if v.at.source == source && reveal(v.data) != redact(v.data) {
			return true
		}
	}
	return false
}
