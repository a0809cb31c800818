package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// messageLines is the number of lines of a failed program's stderr in an error.
const messageLines = 8

// process is a program to run.
type process struct {
	name string
	args []string
	dir  string   // empty: the current directory
	env  []string // in addition to this process's environment
}

// run runs a program and returns its stdout without surrounding space, also if it
// fails. The error then contains the end of its stderr.
func run(ctx context.Context, p process) (string, error) {
	cmd := exec.CommandContext(ctx, p.name, p.args...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.env...)
	cmd.WaitDelay = 5 * time.Second // its children may keep the pipes open
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	err := cmd.Run()
	printed := strings.TrimSpace(out.String())
	if ctx.Err() != nil {
		return printed, fmt.Errorf("%s was stopped: %w", p.name, context.Cause(ctx))
	}
	if err != nil {
		return printed, fmt.Errorf("%s %s: %w", p.name, p.args[0], errors.Join(err, lastLines(messages.String())))
	}
	return printed, nil
}

// lastLines returns the last lines of a program's stderr as an error.
func lastLines(messages string) error {
	messages = strings.TrimSpace(messages)
	if messages == "" {
		return nil
	}
	lines := strings.Split(messages, "\n")
	return errors.New(strings.Join(lines[max(0, len(lines)-messageLines):], "\n"))
}
