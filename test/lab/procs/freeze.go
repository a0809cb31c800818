package procs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	freezeTimeout  = 10 * time.Second
	freezeInterval = 5 * time.Millisecond
)

// Freeze stops the process with SIGSTOP, and waits until all its threads have
// stopped: one that runs on another processor continues for a moment after the
// signal.
func (p *Process) Freeze() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("cannot freeze %s: %w", p.Name, err)
	}
	for end := time.Now().Add(freezeTimeout); ; time.Sleep(freezeInterval) {
		running, err := p.running()
		switch {
		case err != nil:
			return fmt.Errorf("cannot freeze %s: %w", p.Name, err)
		case running == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("cannot freeze %s: %d threads run after %s", p.Name, running, freezeTimeout)
		}
	}
}

// running returns the number of threads that are not stopped. The state follows the
// name in parentheses (proc_pid_stat(5)).
func (p *Process) running() (int, error) {
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	if err != nil || len(list) == 0 {
		return 0, fmt.Errorf("found no threads: %w", os.ErrProcessDone)
	}
	n := 0
	for _, path := range list {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		if _, state, _ := bytes.Cut(data[bytes.LastIndexByte(data, ')'):], []byte(" ")); !bytes.HasPrefix(state, []byte("T")) {
			n++
		}
	}
	return n, nil
}
