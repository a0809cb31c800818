package stages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/internal/unified"
	"github.com/projecteru2/firstboot/units"
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

// writeFiles writes only the files that differ. Before the first one it notes that
// the units must read them.
func (e *Env) writeFiles(ctx context.Context, list []host.File, readers ...string) error {
	noted := false
	for _, f := range list {
		var seen engine.CheckResult
		if err := checkFile(e.Host, f, &seen); err == nil && seen.OK() {
			continue
		}
		if !noted {
			if err := e.noteOutdated(ctx, readers...); err != nil {
				return err
			}
			noted = true
		}
		if err := e.writeFile(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file. Of a unit's file it notes that systemd must read it.
func (e *Env) writeFile(ctx context.Context, f host.File) error {
	write := func() error { return e.Host.WriteFile(f.Path, f.Data, f.Mode) }
	below, ofUnit := strings.CutPrefix(f.Path, units.AdminDir+"/")
	if !ofUnit {
		return write()
	}
	name, _, _ := strings.Cut(below, "/")
	name = strings.TrimSuffix(name, ".d")
	unit, err := e.Host.Systemd().Unit(ctx, name)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	err = e.changeUnits(write)
	if unit.Load == "loaded" {
		e.changes.noteStale(name)
	}
	return err
}

// noteOutdated notes that units must be restarted or reloaded, because what they read
// is about to change. A later attempt or run could not rely on the modification times
// of files instead, because the clock may be wrong.
func (e *Env) noteOutdated(ctx context.Context, names ...string) error {
	since := map[string]time.Time{}
	for _, name := range names {
		unit, err := e.Host.Systemd().Unit(ctx, name)
		if err != nil {
			return &engine.Retry{Err: err}
		}
		if !unit.Since.IsZero() {
			since[name] = unit.Since
		}
	}
	if len(since) == 0 {
		return nil
	}
	return e.Notes.SetNotes(func(n *state.Notes) {
		for name, at := range since {
			n.SetOutdated(name, at)
		}
	})
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
