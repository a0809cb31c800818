package minions

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
)

// partialSuffix is the suffix that rpm adds to the name of a file until it has
// unpacked it: a semicolon and the transaction's number in eight hexadecimal
// digits (lib/fsm.c of rpm). A killed rpm leaves such files, which can be as
// large as the complete ones, and no later rpm removes them.
var partialSuffix = regexp.MustCompile(`^;[0-9a-f]{8}$`)

// PackagedFiles lists the installed package's files and directories.
func PackagedFiles(ctx context.Context, h *host.Host) ([]string, error) {
	out, err := h.Query(ctx, host.Command{Name: "rpm", Args: []string{"-ql", Package}, Timeout: rpmTimeout})
	if err != nil {
		return nil, fmt.Errorf("cannot list the files of %s: %w", Package, err)
	}
	var files []string
	for line := range strings.Lines(string(out.Stdout)) {
		if file := strings.TrimSpace(line); path.IsAbs(file) {
			files = append(files, file)
		}
	}
	return files, nil
}

// RemovePartialFiles removes what a killed rpm left next to the package's
// files. It runs after our own transaction, or if none is needed, so that no
// other rpm is installing the package. It ignores errors, because leftovers
// only take up space.
func RemovePartialFiles(h *host.Host, packaged []string) {
	names := map[string][]string{} // base names of the package's files, by directory
	for _, file := range packaged {
		names[path.Dir(file)] = append(names[path.Dir(file)], path.Base(file))
	}
	for dir, bases := range names {
		entries, err := h.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			partial := path.Join(dir, entry)
			if info, err := h.Stat(partial); isPartial(entry, bases) && (err != nil || !info.IsDir()) {
				_ = h.Remove(partial)
			}
		}
	}
}

// isPartial reports whether name is rpm's name for one of the files while it is
// being unpacked.
func isPartial(name string, files []string) bool {
	for _, file := range files {
		if suffix, ok := strings.CutPrefix(name, file); ok && partialSuffix.MatchString(suffix) {
			return true
		}
	}
	return false
}
