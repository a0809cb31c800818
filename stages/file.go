package stages

import (
	"bytes"
	"fmt"
	"io/fs"
	"time"

	"github.com/pmezard/go-difflib/difflib"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// header opens the files that firstboot owns.
const fileHeader = "# Written by firstboot; edits are reported as drift.\n"

// file is a file as a stage wants it.
type file struct {
	path string
	data []byte
	mode fs.FileMode
}

// check adds a difference if the host's file is not f. secret files are
// compared and not shown.
func (f file) check(h *host.Host, finding *engine.CheckResult) {
	have, err := h.ReadFile(f.path)
	switch {
	case host.NotExist(err):
		finding.Add(engine.Difference{Object: f.path, Actual: "not there", Expected: "the configured content", Diff: f.diff(nil)})
		return
	case err != nil:
		finding.Add(engine.Difference{Object: f.path, Actual: err.Error(), Expected: "the configured content"})
		return
	case !bytes.Equal(have, f.data):
		finding.Add(engine.Difference{Object: f.path, Actual: "other content", Expected: "the configured content", Diff: f.diff(have)})
	}
	if info, err := h.Stat(f.path); err == nil && info.Mode().Perm() != f.mode {
		finding.Add(engine.Difference{Object: f.path, Actual: fmt.Sprintf("mode %04o", info.Mode().Perm()), Expected: fmt.Sprintf("mode %04o", f.mode)})
	}
}

func (f file) write(h *host.Host) error { return h.WriteFile(f.path, f.data, f.mode) }

// startedBefore tells whether something that was started at since cannot have
// read the file, which was written later. A time that lies ahead is of a clock
// that has been set back since, and tells nothing.
func (e *Env) startedBefore(since time.Time, path string) (bool, error) {
	info, err := e.Host.Stat(path)
	if err != nil {
		return false, err
	}
	written := info.ModTime()
	return since.Before(written) && !written.After(time.Now()), nil
}

// diff is a unified diff from have to f; "" for files that others may not
// read, which may hold secrets.
func (f file) diff(have []byte) string {
	if f.mode&0o044 == 0 {
		return ""
	}
	from := f.path
	if have == nil {
		from = "/dev/null"
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(string(have)), B: difflib.SplitLines(string(f.data)),
		FromFile: from, ToFile: f.path, Context: 2,
	})
	if err != nil {
		return ""
	}
	return text
}
