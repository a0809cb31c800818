package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// checkPermissions refuses files of the search path that a user other than root
// can change, because root acts on their contents. It warns about files with
// secrets that every user can read, and about files of --config that every user
// can change.
func (l *loader) checkPermissions(merged layer) (refused, warnings Problems) {
	for _, d := range l.decoded {
		info, err := l.stat(d.source.Name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		at := position{source: d.source.Name}
		why, hint := changeableBy(info)
		switch {
		case why == "":
		case !slices.Contains(l.options.Files, d.source.Name):
			refused = append(refused, at.problem("", why, hint))
		case info.Mode().Perm()&0o002 != 0:
			warnings = append(warnings, at.problem("", why, hint))
		}
		if info.Mode().Perm()&0o004 != 0 && holdsSecret(merged, d.source.Name) {
			warnings = append(warnings, at.problem("", "contains secrets and is readable by every user", "chmod 600"))
		}
	}
	if len(l.options.Files) == 0 && !l.saved {
		refused = append(refused, l.checkDirectories()...)
	}
	return refused, warnings
}

// checkDirectories refuses directories of the search path in which another user
// can create or replace files.
func (l *loader) checkDirectories() (refused Problems) {
	for _, dir := range []string{VendorDir, filepath.Dir(MainFile), DropInDir} {
		full, err := l.tree.path(dir)
		if err != nil {
			continue
		}
		info, err := os.Stat(full)
		if err != nil || !info.IsDir() {
			continue
		}
		if why, hint := changeableBy(info); why != "" {
			refused = append(refused, position{source: dir}.problem("", why, hint))
		}
	}
	return refused
}

// changeableBy returns which user other than root, and the user of this process,
// can change a file, or "" if none can. The group of root's files is root's.
func changeableBy(info os.FileInfo) (why, hint string) {
	owner, ok := info.Sys().(*syscall.Stat_t)
	mode := "600"
	if info.IsDir() {
		mode = "755"
	}
	switch {
	case info.Mode().Perm()&0o002 != 0:
		return "is writable by every user", "chmod " + mode
	case !ok:
		return "", ""
	case owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return fmt.Sprintf("belongs to the user %d, who can change it", owner.Uid), "chown root:root"
	case info.Mode().Perm()&0o020 != 0 && owner.Gid != 0 && int(owner.Gid) != os.Getegid():
		return fmt.Sprintf("is writable by the group %d", owner.Gid), "chmod " + mode
	}
	return "", ""
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
