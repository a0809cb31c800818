// Package procs runs the processes of a lab and makes sure that they end with it.
// All are started from one thread, which can be in its own network namespace. The
// kernel kills them when the lab's process ends. Each is recorded in a file, so
// that a later process can find those that are still running.
//
// The package knows nothing about the programs.
package procs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// recordName is the file in a group's directory with one line per process.
const recordName = "processes"

// stopTimeout is the time between SIGTERM and SIGKILL.
const stopTimeout = 5 * time.Second

// Group is a set of processes with the same owner.
type Group struct {
	dir     string
	keep    bool
	work    chan func()
	done    chan struct{}
	closing sync.Once

	mu   sync.Mutex
	list []*Process
}

// Process is a process that was started by a Group.
type Process struct {
	Name string
	PID  int

	cmd   *exec.Cmd
	ended chan struct{}
}

// NewGroup creates a group that records its processes in dir. With keep, they
// continue to run when this process ends, unless Close was called.
func NewGroup(dir string, keep bool) *Group {
	g := &Group{dir: dir, keep: keep, work: make(chan func()), done: make(chan struct{})}
	go g.thread()
	return g
}

// thread runs all of the group's functions on one operating system thread, for
// two reasons: a thread has its own namespaces, and PR_SET_PDEATHSIG (prctl(2))
// kills a child when the thread that started it ends. The thread stays locked, so
// it ends with the goroutine.
func (g *Group) thread() {
	runtime.LockOSThread()
	for {
		select {
		case fn := <-g.work:
			fn()
		case <-g.done:
			return
		}
	}
}

// Do runs fn on the group's thread. If fn changes the thread, for example enters a
// network namespace, all processes that the group starts later are affected.
func (g *Group) Do(fn func() error) error {
	result := make(chan error, 1)
	select {
	case g.work <- func() { result <- fn() }:
		return <-result
	case <-g.done:
		return errors.New("the lab is closed")
	}
}

// Start starts a process and records it. The process is in its own process group,
// so that an interrupt at the terminal reaches only the lab, which then stops its
// processes cleanly. Other attributes of the command, such as new namespaces, are
// kept.
func (g *Group) Start(name string, cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if !g.keep {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := g.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	p := &Process{Name: name, PID: cmd.Process.Pid, cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the result is in cmd.ProcessState
		close(p.ended)
	}()
	g.mu.Lock()
	g.list = append(g.list, p)
	g.mu.Unlock()
	if err := record(filepath.Join(g.dir, recordName), p); err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return p, nil
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// State returns "running", or how the process ended: "exit status 1".
func (p *Process) State() string {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.String()
	default:
		return "running"
	}
}

// Signal sends a signal to the process. It does nothing if the process has ended.
func (p *Process) Signal(s os.Signal) error {
	err := p.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Kill kills the process and waits until it has ended.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("cannot kill %s: %w", p.Name, err)
	}
	<-p.ended
	return nil
}

// Stop sends SIGTERM, and kills the process if it does not end in time.
func (p *Process) Stop() error {
	if err := errors.Join(p.Signal(syscall.SIGCONT), p.Signal(syscall.SIGTERM)); err != nil {
		return fmt.Errorf("cannot stop %s: %w", p.Name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTimeout):
		return p.Kill()
	}
}

// Wait waits until the process has ended.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for the end of %s: %w", p.Name, ctx.Err())
	}
}

// Close kills all processes of the group and ends its thread.
func (g *Group) Close() error {
	var all []error
	g.closing.Do(func() {
		g.mu.Lock()
		list := g.list
		g.mu.Unlock()
		for i := len(list) - 1; i >= 0; i-- {
			all = append(all, list[i].Kill())
		}
		close(g.done)
	})
	return errors.Join(all...)
}

// Detach ends the group but not its processes. KillRecorded can kill them later.
func (g *Group) Detach() { g.closing.Do(func() { close(g.done) }) }
