// Package powercut finds out what a power cut leaves behind. It records the
// changes and syncs of a command, in their order, and computes the file systems
// that can exist after a power cut at each point: what was not synced may be
// complete, missing or torn, and changes of names that were not synced may be
// lost or reach the disk in another order. A test resumes from each of them.
package powercut

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/projecteru2/firstboot/internal/host"
)

// Test runs a command on a root directory and then calls resume once for each
// file system that a power cut during the command can leave behind, each time with
// a new root directory. run must pass the option to every host.Host that writes.
// resume fails the test if the command cannot be completed from there, or if
// something on the disk is not true.
//
// Directories in volatile (such as /run) are lost in every power cut.
func Test(t *testing.T, root string, volatile []string, run func(record host.Option), resume func(t *testing.T, root string)) {
	t.Helper()
	TestFiles(t, root, volatile, func(record func(host.FileOp)) { run(host.WithFileOps(record)) }, resume)
}

// TestFiles is Test for a command that changes files without a host.Host. run must pass
// every change to record.
func TestFiles(t *testing.T, root string, volatile []string, run func(record func(host.FileOp)), resume func(t *testing.T, root string)) {
	t.Helper()
	r := Start(t, root, volatile...)
	run(r.record)
	states := r.States()
	if len(states) < 2 {
		t.Fatalf("the command made no changes that were recorded: %v", r.ops)
	}
	t.Logf("%d operations, %d file systems after a power cut", len(r.ops), len(states))
	for _, s := range states {
		dir := t.TempDir()
		s.restore(t, dir)
		if ok := t.Run(s.Name, func(t *testing.T) { resume(t, dir) }); !ok {
			t.Logf("after this power cut the disk had: %s", s.describe())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// Recorder records the changes below a root directory.
type Recorder struct {
	root     string
	volatile []string
	before   *disk

	mu  sync.Mutex
	ops []host.FileOp
}

// Start reads what is below root now. Everything there counts as synced.
func Start(t *testing.T, root string, volatile ...string) *Recorder {
	t.Helper()
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}
	r := &Recorder{root: root, volatile: volatile}
	if r.before, err = readDisk(root); err != nil {
		t.Fatal(err)
	}
	return r
}

// Option is the option for a host.Host whose changes are recorded.
func (r *Recorder) Option() host.Option { return host.WithFileOps(r.record) }

// record records an operation, if it is below the root directory.
func (r *Recorder) record(op host.FileOp) {
	inside := func(path string) (string, bool) {
		rel, ok := strings.CutPrefix(path, r.root)
		if rel == "" {
			rel = "/"
		}
		return rel, ok && rel[0] == '/'
	}
	path, ok := inside(op.Path)
	if !ok {
		return
	}
	op.Path = path
	if op.Kind == host.OpRename {
		op.To, _ = inside(op.To)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
}

// Filter removes the operations for which drop returns true, such as all syncs:
// a test of a test.
func (r *Recorder) Filter(drop func(host.FileOp) bool) { r.ops = slices.DeleteFunc(r.ops, drop) }

// State is a file system after a power cut.
type State struct {
	Name  string
	files map[string]file
}

// States returns the file systems that can exist after a power cut before, between
// and after the recorded operations, each once.
func (r *Recorder) States() []State {
	var all []State
	seen := map[string]bool{}
	d := r.before.clone()
	for i := 0; ; i++ {
		for _, v := range d.variants() {
			s := State{Name: fmt.Sprintf("after %d operations, %s", i, v.name), files: v.files}
			maps.DeleteFunc(s.files, func(path string, _ file) bool { return r.isVolatile(path) })
			if key := s.describe(); !seen[key] {
				seen[key] = true
				all = append(all, s)
			}
		}
		if i == len(r.ops) {
			return all
		}
		d.apply(r.ops[i])
	}
}

func (r *Recorder) isVolatile(path string) bool {
	return slices.ContainsFunc(r.volatile, func(dir string) bool { return strings.HasPrefix(path, dir+"/") })
}

// restore writes the state below dir.
func (s State) restore(t *testing.T, dir string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		f, at := s.files[path], filepath.Join(dir, path)
		var err error
		switch {
		case path == "/":
		case f.mode.IsDir():
			err = os.Mkdir(at, f.mode.Perm())
		case f.link != "":
			err = os.Symlink(f.link, at)
		default:
			if err = os.WriteFile(at, f.data, f.mode.Perm()); err == nil {
				err = os.Chmod(at, f.mode.Perm())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// describe lists the files with their modes and sizes, and a part of short ones.
func (s State) describe() string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		f := s.files[path]
		fmt.Fprintf(&b, "\n%v %s %s %q", f.mode, path, f.link, f.data)
	}
	return b.String()
}
