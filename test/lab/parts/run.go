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

// messageLines is how many of a failed program's last lines an error shows.
const messageLines = 8

// process is a program to run.
type process struct {
	name string
	args []string
	dir  string   // "": this process's own
	env  []string // over this process's own
}

// run runs a program and returns what it printed, without the last line end,
// also where it fails; then the end of its messages is in the error.
func run(ctx context.Context, p process) (string, error) {
	cmd := exec.CommandContext(ctx, p.name, p.args...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.env...)
	cmd.WaitDelay = 5 * time.Second // its children may hold the pipes
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	err := cmd.Run()
	printed := strings.TrimSpace(out.String())
	if ctx.Err() != nil {
		return printed, fmt.Errorf("%s was stopped: %w", p.name, context.Cause(ctx))
	}
	if err != nil {
		return printed, fmt.Errorf("%s %s: %w", p.name, p.args[0], errors.Join(err, ending(messages.String())))
	}
	return printed, nil
}

// ending is the last of a program's messages: what it failed of.
func ending(messages string) error {
	messages = strings.TrimSpace(messages)
	if messages == "" {
		return nil
	}
	lines := strings.Split(messages, "\n")
	return errors.New(strings.Join(lines[max(0, len(lines)-messageLines):], "\n"))
}
