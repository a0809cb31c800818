package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/test/lab/labnet"
	"github.com/projecteru2/firstboot/test/lab/procs"
)

// workspace is the directory labs/NAME of a lab. The process of the lab holds a
// lock on the file labs/NAME.lock, which the kernel releases when the process
// ends. A directory that nobody has locked was left behind by a killed process,
// and the next lab removes it with everything that belongs to it. The exception
// is a lab that was created with Keep and still has running processes.
type workspace struct {
	name, dir string
	lock      *os.File
}

const (
	keptFile   = "kept"
	lockSuffix = ".lock"
	// allLabs is the name of the lock that is held while labs are created or
	// removed, so that two processes do not remove each other's new labs.
	allLabs = "all"
)

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func (w *workspace) namespace() string { return "firstboot-" + w.name }

// newWorkspace removes the labs that killed processes left behind, and creates
// the directory of a new lab.
func newWorkspace(labs, name string, log func(string, ...any)) (*workspace, error) {
	if !validName.MatchString(name) || name == allLabs {
		return nil, fmt.Errorf("cannot create a lab named %q: want lower case letters, digits and dashes, at most 31", name)
	}
	if err := os.MkdirAll(labs, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create a lab: %w", err)
	}
	all, err := lockFile(filepath.Join(labs, allLabs+lockSuffix), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	if err := removeAbandoned(labs, name, log); err != nil {
		return nil, err
	}
	w, err := lockWorkspace(labs, name)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot create a lab: %w", err), w.unlock())
	}
	return w, nil
}

// lockFile opens and locks a file. how is an argument of flock(2).
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return f, nil
}

// lockWorkspace locks the workspace of a lab. It does not wait for the lock.
func lockWorkspace(labs, name string) (*workspace, error) {
	path := filepath.Join(labs, name+lockSuffix)
	f, err := lockFile(path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, _ := os.ReadFile(path)
		return nil, &inUseError{name: name, by: fmt.Sprintf("process %s", strings.TrimSpace(string(pid)))}
	}
	if err != nil {
		return nil, err
	}
	if f.Truncate(0) == nil {
		fmt.Fprintln(f, os.Getpid())
	}
	return &workspace{name: name, dir: filepath.Join(labs, name), lock: f}, nil
}

// inUseError means that another process uses the lab.
type inUseError struct{ name, by string }

func (e *inUseError) Error() string {
	return fmt.Sprintf("the lab %s is in use by %s", e.name, e.by)
}

// removeAbandoned removes the labs that killed processes left behind.
func removeAbandoned(labs, wanted string, log func(string, ...any)) error {
	list, err := os.ReadDir(labs)
	if err != nil {
		return fmt.Errorf("cannot list the labs: %w", err)
	}
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		w, err := lockWorkspace(labs, e.Name())
		var inUse *inUseError
		if errors.As(err, &inUse) && e.Name() != wanted {
			continue
		}
		if err != nil {
			return err
		}
		if running := w.keptProcesses(); len(running) > 0 {
			err := w.unlock()
			if e.Name() == wanted {
				err = &inUseError{name: w.name, by: "processes that were started with KEEP: " + strings.Join(running, ", ")}
			}
			if err != nil {
				return err
			}
			continue
		}
		log("removing the lab %s of a killed process", w.name)
		if err := w.removeLocked(); err != nil {
			return err
		}
	}
	return nil
}

// keptProcesses returns the running processes of a lab that was created with
// Keep.
func (w *workspace) keptProcesses() []string {
	if _, err := os.Stat(filepath.Join(w.dir, keptFile)); err != nil {
		return nil
	}
	running, err := procs.Alive(w.dir)
	if err != nil {
		return nil
	}
	return running
}

// markKept marks the lab as created with Keep.
func (w *workspace) markKept() error {
	if err := os.WriteFile(filepath.Join(w.dir, keptFile), nil, 0o644); err != nil {
		return fmt.Errorf("cannot keep the lab: %w", err)
	}
	return nil
}

// removeLocked kills the lab's processes, removes its namespace and its
// directory, and unlocks it. The caller holds the lock allLabs. Otherwise another
// process could open the lock file just before it is removed, and then hold the
// lock of a deleted file.
func (w *workspace) removeLocked() error {
	err := errors.Join(procs.KillRecorded(w.dir), labnet.Remove(w.namespace()))
	if err == nil {
		err = os.RemoveAll(w.dir)
	}
	if err == nil {
		err = os.Remove(w.lock.Name())
	}
	return errors.Join(err, w.unlock())
}

func (w *workspace) unlock() error { return w.lock.Close() }

// remove removes the lab of this process.
func (w *workspace) remove() error {
	all, err := lockFile(filepath.Join(filepath.Dir(w.dir), allLabs+lockSuffix), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer all.Close()
	return w.removeLocked()
}
