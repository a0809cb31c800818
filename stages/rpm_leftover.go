package stages

import (
	"context"
	"path"
	"regexp"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// halfFile is what rpm adds to the name of a file until it has unpacked it: a
// semicolon and the transaction's number, eight hexadecimal digits (its
// lib/fsm.c). One that is killed leaves such files, as large as what they were
// to become, and no later rpm removes them.
var halfFile = regexp.MustCompile(`^;[0-9a-f]{8}$`)

// removeHalfFiles removes what a killed rpm left beside the package's files.
// It comes after a transaction of ours, or where none is needed, so that no
// other rpm is at work on the package. What stays does no harm but take room,
// so nothing here is an error.
func (s minions) removeHalfFiles(ctx context.Context) {
	out, err := s.Host.Query(ctx, host.Command{Name: "rpm", Args: []string{"-ql", minionsPackage}, Timeout: rpmTime})
	if err != nil {
		return
	}
	names := map[string][]string{} // of the package's files, by folder
	for line := range strings.Lines(string(out.Stdout)) {
		if file := strings.TrimSpace(line); path.IsAbs(file) {
			names[path.Dir(file)] = append(names[path.Dir(file)], path.Base(file))
		}
	}
	for dir, bases := range names {
		entries, err := s.Host.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			half := path.Join(dir, entry)
			if info, err := s.Host.Stat(half); isHalf(entry, bases) && (err != nil || !info.IsDir()) {
				_ = s.Host.Remove(half)
			}
		}
	}
}

// isHalf tells whether a name is rpm's for half of one of the files.
func isHalf(name string, files []string) bool {
	for _, file := range files {
		if end, ok := strings.CutPrefix(name, file); ok && halfFile.MatchString(end) {
			return true
		}
	}
	return false
}
