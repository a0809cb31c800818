package stages

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/unified"
)

// fileHeader is the first line of the files that firstboot owns.
const fileHeader = "# Written by firstboot; edits are reported as drift.\n"

// file is a configuration file that a stage wants on the host.
type file struct {
	path string
	data []byte
	mode fs.FileMode
}

// checkFiles checks every file. The error names the files that only another user
// can read.
func checkFiles(h *host.Host, list []file, result *engine.CheckResult) error {
	var errs []error
	for _, f := range list {
		errs = append(errs, f.check(h, result))
	}
	return errors.Join(errs...)
}

// check adds a difference to result if the host's file differs from f in content
// or mode. It returns an error if this user may not read the file: that is no
// difference.
func (f file) check(h *host.Host, result *engine.CheckResult) error {
	have, err := h.ReadFile(f.path)
	switch {
	case host.NotExist(err):
		result.Add(engine.Difference{Object: f.path, Actual: "missing", Expected: "the configured content", Diff: f.diff(nil)})
		return nil
	case errors.Is(err, fs.ErrPermission):
		return err
	case err != nil:
		result.Add(engine.Difference{Object: f.path, Actual: err.Error(), Expected: "the configured content"})
		return nil //nolint:nilerr // a directory or a damaged file is a difference
	case !bytes.Equal(have, f.data):
		result.Add(engine.Difference{Object: f.path, Actual: "different content", Expected: "the configured content", Diff: f.diff(have)})
	}
	if info, err := h.Stat(f.path); err == nil && info.Mode().Perm() != f.mode {
		result.Add(engine.Difference{Object: f.path, Actual: fmt.Sprintf("mode %04o", info.Mode().Perm()), Expected: fmt.Sprintf("mode %04o", f.mode)})
	}
	return nil
}

func (f file) write(h *host.Host) error { return h.WriteFile(f.path, f.data, f.mode) }

// startedBefore reports whether the file was written after since, so that a
// program that started at since has not read it. It returns false if the file's
// time is in the future, because then the clock has been set back.
func (e *Env) startedBefore(since time.Time, path string) (bool, error) {
	info, err := e.Host.Stat(path)
	if err != nil {
		return false, err
	}
	written := info.ModTime()
	return since.Before(written) && !written.After(time.Now()), nil
}

// diff returns a unified diff from have to f. It is empty for files that only
// their owner may read, because these may hold secrets.
func (f file) diff(have []byte) string {
	if f.mode&0o044 == 0 {
		return ""
	}
	return unified.Diff(f.path, have, f.data)
}
