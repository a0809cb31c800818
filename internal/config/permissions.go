package config

import (
	"os"
	"slices"
	"strings"
)

// checkPermissions warns about files with secrets that every user can read, and
// about files that every user can change: root acts on their contents.
func (l *loader) checkPermissions(merged layer) Problems {
	var warnings Problems
	for _, d := range l.decoded {
		info, err := l.stat(d.source.Name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		at := position{source: d.source.Name}
		if info.Mode().Perm()&0o002 != 0 {
			warnings = append(warnings, at.problem("", "is writable by every user", "chmod 600"))
		}
		if info.Mode().Perm()&0o004 != 0 && holdsSecret(merged, d.source.Name) {
			warnings = append(warnings, at.problem("", "contains secrets and is readable by every user", "chmod 600"))
		}
	}
	return warnings
}

// stat returns the file information of a source that is a file. A file named
// by --config is not below the root directory.
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

// holdsSecret reports whether the source sets a value that is masked when
// shown.
func holdsSecret(l layer, source string) bool {
	for _, v := range l {
		if v.at.source == source && reveal(v.data) != redact(v.data) {
			return true
		}
	}
	return false
}
