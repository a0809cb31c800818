package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/projecteru2/firstboot/internal/text"
)

// maxOutput bounds what is kept of each output stream of a command, in bytes.
const maxOutput = 1 << 20

// Command is a command to run.
type Command struct {
	Name    string
	Args    []string
	Stdin   []byte
	Env     []string      // added to a minimal PATH and HOME
	Timeout time.Duration // required: calicoctl hangs while etcd is unreachable
}

// String returns the command quoted for a shell.
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

// CommandError is a command that could not be started, exited with a status
// other than 0, or timed out.
type CommandError struct {
	Command  string
	ExitCode int           // -1 if it was not started or was killed
	TimedOut time.Duration // the timeout, if the command timed out; otherwise 0
	Stderr   string        // its last lines
	Err      error
}

func (e *CommandError) Error() string {
	switch {
	case e.TimedOut > 0:
		return fmt.Sprintf("%s: timed out after %v", e.Command, e.TimedOut)
	case e.Stderr != "":
		return fmt.Sprintf("%s: %s", e.Command, e.Stderr)
	}
	return fmt.Sprintf("%s: %v", e.Command, e.Err)
}

func (e *CommandError) Unwrap() error { return e.Err }

// Run runs a command that may change the machine. Its error is a
// *CommandError.
func (h *Host) Run(ctx context.Context, c Command) (Output, error) {
	h.step("command", c.String())
	return h.exec.Run(ctx, c)
}

// Query runs a command that changes nothing. Its error is a *CommandError.
func (h *Host) Query(ctx context.Context, c Command) (Output, error) {
	return h.exec.Run(ctx, c)
}

// QueryOnce runs a command whose answer cannot change during a run. Later calls
// return the same output; a failure is not kept.
func (h *Host) QueryOnce(ctx context.Context, c Command) (Output, error) {
	h.answers.mu.Lock()
	defer h.answers.mu.Unlock()
	if out, known := h.answers.outputs[c.String()]; known {
		return out, nil
	}
	out, err := h.exec.Run(ctx, c)
	if err == nil {
		h.answers.outputs[c.String()] = out
	}
	return out, err
}

// answers are the outputs of QueryOnce by command.
type answers struct {
	mu      sync.Mutex
	outputs map[string]Output
}

// LookPath searches the machine's PATH for an executable.
func (h *Host) LookPath(name string) (string, bool) {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		path := dir + "/" + name
		if info, err := h.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

// localExecutor runs commands on the machine that this process runs on.
type localExecutor struct{}

// killDelay is the time between SIGTERM and SIGKILL for a command to stop.
const killDelay = 3 * time.Second

// A program that this process has just written can stay busy for an instant:
// another command that is being started inherits the open file until its exec
// (golang.org/issue/22315). maxAttempts and busyPause bound the retries to a
// second.
const (
	maxAttempts = 20
	busyPause   = 50 * time.Millisecond
)

func (localExecutor) Run(ctx context.Context, c Command) (Output, error) {
	if c.Timeout <= 0 {
		return Output{}, &CommandError{Command: c.Name, ExitCode: -1, Err: errors.New("no timeout is set")}
	}
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		output, err := runOnce(ctx, limited, c)
		if attempt == maxAttempts || !errors.Is(err, syscall.ETXTBSY) {
			return output, err
		}
		select {
		case <-limited.Done():
			return output, err
		case <-time.After(busyPause):
		}
	}
}

// runOnce runs a command once; limited is ctx with the command's timeout.
func runOnce(ctx, limited context.Context, c Command) (Output, error) {
	cmd := exec.CommandContext(limited, c.Name, c.Args...)
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C",
	}, c.Env...)
	cmd.Stdin = bytes.NewReader(c.Stdin)
	// A separate process group, so that a shell's children are stopped too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var family *processes
	cmd.Cancel = func() error {
		family = descendants(cmd.Process.Pid)
		family.signal(syscall.SIGTERM)
		return nil
	}
	// After this delay the process is killed and its pipes are closed, even if a
	// child still has them open.
	cmd.WaitDelay = killDelay
	var stdout, stderr limitedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if family != nil {
		family.signal(syscall.SIGKILL)
	}
	output := Output{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	if err == nil {
		return output, nil
	}
	failed := &CommandError{Command: shortName(c), ExitCode: -1, Err: err, Stderr: lastLines(stderr.Bytes(), stdout.Bytes())}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		failed.ExitCode = exit.ExitCode()
	}
	if limited.Err() != nil && ctx.Err() == nil {
		failed.TimedOut, failed.Err = c.Timeout, context.DeadlineExceeded
	}
	return output, failed
}

// shortName is the command's name and up to three arguments: enough to
// recognise it in an error.
func shortName(c Command) string {
	words := []string{c.Name}
	for _, a := range c.Args {
		if len(words) == 4 || strings.ContainsAny(a, "\n{") {
			break
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// lastLines returns the last three lines of a failed command's stderr (or
// stdout, if stderr is empty), joined into one.
func lastLines(stderr, stdout []byte) string {
	const maxLength = 600
	printed := strings.TrimSpace(string(stderr))
	if printed == "" {
		printed = strings.TrimSpace(string(stdout))
	}
	lines := strings.Split(printed, "\n")
	lines = lines[max(0, len(lines)-3):]
	return text.Tail(strings.Join(lines, " | "), maxLength)
}

// limitedBuffer keeps the first maxOutput bytes and discards the rest.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	room := maxOutput - b.Len()
	if room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

var _ io.Writer = (*limitedBuffer)(nil)
