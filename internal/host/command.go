package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// maxOutput bounds what is kept of a command's output, in bytes a stream.
const maxOutput = 1 << 20

// Command is one program run. Timeout is required: there is no command that
// may hang for ever (calicoctl does when etcd is gone).
type Command struct {
	Name    string
	Args    []string
	Stdin   []byte
	Env     []string // added to a clean PATH and HOME
	Timeout time.Duration
}

// String is the command as a shell would take it.
func (c Command) String() string {
	words := append([]string{c.Name}, c.Args...)
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$&|;<>*?(){}[]`~#") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// Output is what a command printed.
type Output struct{ Stdout, Stderr []byte }

// Executor runs commands on the machine.
type Executor interface {
	Run(ctx context.Context, c Command) (Output, error)
}

// CommandError is a command that could not be run, ended with another status
// than 0, or ran out of its time.
type CommandError struct {
	Command  string
	ExitCode int // -1 if it did not run or was killed
	TimedOut time.Duration
	Stderr   string // its last lines
	Err      error
}

func (e *CommandError) Error() string {
	switch {
	case e.TimedOut > 0:
		return fmt.Sprintf("%s: no end after %v", e.Command, e.TimedOut)
	case e.Stderr != "":
		return fmt.Sprintf("%s: %s", e.Command, e.Stderr)
	}
	return fmt.Sprintf("%s: %v", e.Command, e.Err)
}

func (e *CommandError) Unwrap() error { return e.Err }

// Run runs a command of the machine. An error is a *CommandError.
func (h *Host) Run(ctx context.Context, c Command) (Output, error) {
	h.step("command", c.String())
	return h.exec.Run(ctx, c)
}

// Query runs a command that only looks and changes nothing.
func (h *Host) Query(ctx context.Context, c Command) (Output, error) {
	return h.exec.Run(ctx, c)
}

// LookPath finds a program on the machine's PATH.
func (h *Host) LookPath(name string) (string, bool) {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		path := dir + "/" + name
		if info, err := h.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

// localExecutor runs commands on the machine that the process runs on.
type localExecutor struct{}

// grace is how long a command has to end after SIGTERM before it is killed.
const grace = 3 * time.Second

func (localExecutor) Run(ctx context.Context, c Command) (Output, error) {
	if c.Timeout <= 0 {
		return Output{}, &CommandError{Command: c.Name, ExitCode: -1, Err: errors.New("no time limit was set")}
	}
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	for tries := 1; ; tries++ {
		output, err := runOnce(ctx, limited, c)
		if tries == busyTries || !errors.Is(err, syscall.ETXTBSY) {
			return output, err
		}
		select {
		case <-limited.Done():
			return output, err
		case <-time.After(busyPause):
		}
	}
}

// A program that this process has just written is busy for an instant more if
// another command was started meanwhile: until that one is executed it has the
// file open, too (golang.org/issue/22315; seen once in some hundred runs of the
// tests). busyTries and busyPause bound the patience to a second.
const (
	busyTries = 20
	busyPause = 50 * time.Millisecond
)

// runOnce runs a command; limited is ctx with the command's own time limit.
func runOnce(ctx, limited context.Context, c Command) (Output, error) {
	cmd := exec.CommandContext(limited, c.Name, c.Args...)
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C",
	}, c.Env...)
	cmd.Stdin = bytes.NewReader(c.Stdin)
	// A group of its own, so that the children of a shell end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	var out, errs capped
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	output := Output{Stdout: out.Bytes(), Stderr: errs.Bytes()}
	if err == nil {
		return output, nil
	}
	failed := &CommandError{Command: brief(c), ExitCode: -1, Err: err, Stderr: lastLines(errs.Bytes(), out.Bytes())}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		failed.ExitCode = exit.ExitCode()
	}
	if limited.Err() != nil && ctx.Err() == nil {
		failed.TimedOut, failed.Err = c.Timeout, context.DeadlineExceeded
	}
	return output, failed
}

// brief is the command's name and first words: enough to know which it was.
func brief(c Command) string {
	words := []string{c.Name}
	for _, a := range c.Args {
		if len(words) == 4 || strings.ContainsAny(a, "\n{") {
			break
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// lastLines is the end of what a failed command said, in one line.
func lastLines(stderr, stdout []byte) string {
	text := strings.TrimSpace(string(stderr))
	if text == "" {
		text = strings.TrimSpace(string(stdout))
	}
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-3):]
	joined := strings.Join(lines, " | ")
	if len(joined) > 600 {
		joined = "…" + joined[len(joined)-600:]
	}
	return joined
}

// capped keeps the first maxOutput bytes and swallows the rest.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	room := maxOutput - c.Len()
	if room > 0 {
		c.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

var _ io.Writer = (*capped)(nil)
