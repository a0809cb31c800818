// Package procs runs the processes of one lab so that none outlives it: they
// are started from one thread, which may live in a network namespace of its
// own, the kernel kills them when that thread's process ends, and each is
// recorded in a file, by which a later run finds what is left.
//
// It knows nothing of what the processes are.
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

// recordName is the file, in a group's folder, with one line a process.
const recordName = "processes"

// stopTime is how long a process may take to end by itself when it is told to.
const stopTime = 5 * time.Second

// Group is a set of processes with one owner.
type Group struct {
	dir     string
	keep    bool
	work    chan func()
	done    chan struct{}
	closing sync.Once

	mu   sync.Mutex
	list []*Process
}

// Process is one started process.
type Process struct {
	Name string
	PID  int

	cmd   *exec.Cmd
	ended chan struct{}
}

// NewGroup makes a group that records its processes in dir. With keep they
// are left running when this process ends (Close still ends them).
func NewGroup(dir string, keep bool) *Group {
	g := &Group{dir: dir, keep: keep, work: make(chan func()), done: make(chan struct{})}
	go g.thread()
	return g
}

// thread does all of the group's work on one thread of the system, for two
// reasons: a namespace belongs to a thread, and so does a child that is to die
// with its parent (prctl(2), PR_SET_PDEATHSIG). It ends with the group; Go then
// ends the thread too, as it stays locked.
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

// Do runs fn on the group's thread. What fn does to the thread (enter a network
// namespace) holds for every process that the group starts later.
func (g *Group) Do(fn func() error) error {
	answer := make(chan error, 1)
	select {
	case g.work <- func() { answer <- fn() }:
		return <-answer
	case <-g.done:
		return errors.New("the lab is closed")
	}
}

// Start starts a process, and records it. Its standard streams are those of
// cmd; it gets a process group of its own, so that an interrupt at the
// terminal reaches only the lab, which then ends it in good order.
func (g *Group) Start(name string, cmd *exec.Cmd) (*Process, error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if !g.keep {
		attr.Pdeathsig = syscall.SIGKILL
	}
	cmd.SysProcAttr = attr
	if err := g.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	p := &Process{Name: name, PID: cmd.Process.Pid, cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
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

// State says how an ended process ended: "exit status 1".
func (p *Process) State() string {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.String()
	default:
		return "running"
	}
}

// Signal sends a signal to a process that has not ended.
func (p *Process) Signal(s os.Signal) error {
	err := p.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Kill ends the process at once, and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("cannot kill %s: %w", p.Name, err)
	}
	<-p.ended
	return nil
}

// Stop asks the process to end, and kills it when it does not.
func (p *Process) Stop() error {
	if err := errors.Join(p.Signal(syscall.SIGCONT), p.Signal(syscall.SIGTERM)); err != nil {
		return fmt.Errorf("cannot stop %s: %w", p.Name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTime):
		return p.Kill()
	}
}

// Wait waits until the process has ended.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot see %s end: %w", p.Name, ctx.Err())
	}
}

// Close kills every process of the group, and ends its thread.
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

// Leave ends the group without ending its processes: they are left to Sweep.
func (g *Group) Leave() { g.closing.Do(func() { close(g.done) }) }
