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

// checkFiles checks every file. The error names the files that only another user
// can read.
func checkFiles(h *host.Host, list []host.File, result *engine.CheckResult) error {
	var errs []error
	for _, f := range list {
		errs = append(errs, checkFile(h, f, result))
	}
	return errors.Join(errs...)
}

// checkFile adds a difference to result if the host's file differs from f in
// content or mode. It returns an error if this user may not read the file: that is
// no difference.
func checkFile(h *host.Host, f host.File, result *engine.CheckResult) error {
	have, err := h.ReadFile(f.Path)
	switch {
	case host.NotExist(err):
		result.Add(engine.Difference{Object: f.Path, Actual: "missing", Expected: "the configured content", Diff: diff(f, nil)})
		return nil
	case errors.Is(err, fs.ErrPermission):
		return err
	case err != nil:
		result.Add(engine.Difference{Object: f.Path, Actual: err.Error(), Expected: "the configured content"})
		return nil //nolint:nilerr // a directory or a damaged file is a difference
	case !bytes.Equal(have, f.Data):
		result.Add(engine.Difference{Object: f.Path, Actual: "different content", Expected: "the configured content", Diff: diff(f, have)})
	}
	if info, err := h.Stat(f.Path); err == nil && info.Mode().Perm() != f.Mode {
		result.Add(engine.Difference{Object: f.Path, Actual: fmt.Sprintf("mode %04o", info.Mode().Perm()), Expected: fmt.Sprintf("mode %04o", f.Mode)})
	}
	return nil
}

// writeFiles writes only the files that differ, and reports whether it wrote one.
// The modification time shows a later run whether a running program has read its
// file. This run must not rely on it, because the clock may be wrong.
func writeFiles(h *host.Host, list []host.File) (written bool, err error) {
	for _, f := range list {
		var seen engine.CheckResult
		if err := checkFile(h, f, &seen); err == nil && seen.OK() {
			continue
		}
		if err := h.WriteFile(f.Path, f.Data, f.Mode); err != nil {
			return written, err
		}
		written = true
	}
	return written, nil
}

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
func diff(f host.File, have []byte) string {
	if f.Mode&0o044 == 0 {
		return ""
	}
	return unified.Diff(f.Path, have, f.Data)
}
