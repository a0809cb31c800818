package report

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// consoleLines is the number of lines that may wait for a slow console.
	consoleLines = 200
	// consoleTimeout limits the wait for a console when the process ends.
	consoleTimeout = 2 * time.Second
)

// console writes lines to a terminal that may be slow, or stopped by a person.
// It drops lines rather than make a run wait. A nil console drops everything.
type console struct {
	mu     sync.Mutex
	lines  chan string
	closed bool
	done   chan struct{}
}

// openConsole opens the terminal at path. It returns nil if path is empty or
// cannot be opened.
func openConsole(path string) *console {
	if path == "" {
		return nil
	}
	if err := writeConsole(path, ""); err != nil {
		return nil
	}
	c := &console{lines: make(chan string, consoleLines), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for line := range c.lines {
			_ = writeConsole(path, line) // the journal has the line as well
		}
	}()
	return c
}

// writeConsole opens the terminal for each line: a getty that starts or stops
// hangs up every open descriptor of its terminal.
func writeConsole(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOCTTY, 0) //nolint:gosec // systemd's unit names it
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

func (c *console) write(line string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	select {
	case c.lines <- line:
	default:
	}
}

// close waits until the lines are written, for a limited time.
func (c *console) close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.lines)
	}
	c.mu.Unlock()
	select {
	case <-c.done:
	case <-time.After(consoleTimeout):
	}
}
