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

// A lab has a folder, labs/NAME, and this process holds a lock on the file
// labs/NAME.lock, which the kernel drops however the process ends. A folder
// whose lock nobody holds was left by a killed run, and is removed by the next
// one, with all that belongs to it; but not if the lab was made to be kept and
// something of it still runs.
type lease struct {
	name, dir string
	lock      *os.File
}

const (
	keptFile   = "kept"
	lockSuffix = ".lock"
	// allLabs is locked while labs are looked through, so that two runs that
	// start at once do not remove each other's beginnings.
	allLabs = "all"
)

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func (l *lease) namespace() string { return "firstboot-" + l.name }

// take sweeps what killed runs left, and makes the folder of a new lab.
func take(labs, name string, log func(string, ...any)) (*lease, error) {
	if !validName.MatchString(name) || name == allLabs {
		return nil, fmt.Errorf("cannot make a lab named %q: want lower case letters, digits and dashes, at most 31", name)
	}
	if err := os.MkdirAll(labs, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make a lab: %w", err)
	}
	all, err := lockFile(filepath.Join(labs, allLabs+lockSuffix), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	if err := sweep(labs, name, log); err != nil {
		return nil, err
	}
	l, err := hold(labs, name)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make a lab: %w", err), l.release())
	}
	return l, nil
}

// lockFile opens and locks a file; how is LOCK_EX, with LOCK_NB or without.
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

// hold takes the lock of a lab that nobody holds.
func hold(labs, name string) (*lease, error) {
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
	return &lease{name: name, dir: filepath.Join(labs, name), lock: f}, nil
}

// inUseError says that a lab is another run's.
type inUseError struct{ name, by string }

func (e *inUseError) Error() string {
	return fmt.Sprintf("the lab %s is in use by %s", e.name, e.by)
}

// sweep removes what killed runs left.
func sweep(labs, wanted string, log func(string, ...any)) error {
	list, err := os.ReadDir(labs)
	if err != nil {
		return fmt.Errorf("cannot look for labs that were left: %w", err)
	}
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		l, err := hold(labs, e.Name())
		var used *inUseError
		if errors.As(err, &used) && e.Name() != wanted {
			continue
		}
		if err != nil {
			return err
		}
		if running := l.kept(); len(running) > 0 {
			err := l.release()
			if e.Name() == wanted {
				err = &inUseError{name: l.name, by: "a run that was told to keep it: " + strings.Join(running, ", ")}
			}
			if err != nil {
				return err
			}
			continue
		}
		log("removing the lab %s, which a killed run left", l.name)
		if err := l.remove(); err != nil {
			return err
		}
	}
	return nil
}

// kept lists what still runs of a lab that was made to be kept.
func (l *lease) kept() []string {
	if _, err := os.Stat(filepath.Join(l.dir, keptFile)); err != nil {
		return nil
	}
	running, err := procs.Alive(l.dir)
	if err != nil {
		return nil
	}
	return running
}

// keep marks the lab as one that outlives its process.
func (l *lease) keep() error {
	if err := os.WriteFile(filepath.Join(l.dir, keptFile), nil, 0o644); err != nil {
		return fmt.Errorf("cannot keep the lab: %w", err)
	}
	return nil
}

// remove ends and removes all that belongs to the lab, and gives up its name.
// The lock of all labs is held: else another run could open this lab's lock
// just before it goes, and hold what nobody sees.
func (l *lease) remove() error {
	err := errors.Join(procs.Sweep(l.dir), labnet.Remove(l.namespace()))
	if err == nil {
		err = os.RemoveAll(l.dir)
	}
	if err == nil {
		err = os.Remove(l.lock.Name())
	}
	return errors.Join(err, l.release())
}

func (l *lease) release() error { return l.lock.Close() }

// close removes the lab of a run that goes on.
func (l *lease) close() error {
	all, err := lockFile(filepath.Join(filepath.Dir(l.dir), allLabs+lockSuffix), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer all.Close()
	return l.remove()
}
