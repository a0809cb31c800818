package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/report"
)

// output is a command's stdout. It keeps the first error of writing, so that
// each command reports it the same way (finishOutput).
type output struct {
	mu  sync.Mutex
	to  io.Writer
	err error
}

// outputError is an error of writing to stdout.
type outputError struct{ err error }

func (e *outputError) Error() string {
	cause := e.err
	var path *fs.PathError // its path is /dev/stdout, whatever stdout is
	if errors.As(cause, &path) {
		cause = path.Err
	}
	return fmt.Sprintf("cannot write the output: %v", cause)
}

func (e *outputError) Unwrap() error { return e.err }

// Write writes to stdout.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.to.Write(p)
	if err == nil {
		return n, nil
	}
	failed := &outputError{err}
	if o.err == nil {
		o.err = failed
	}
	return n, failed
}

// failure returns the first error of writing, or nil.
func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// progress returns where a command that does more than print writes its lines: a
// journal as it is, which takes fields and never fails, otherwise out. Its work
// does not depend on whether they can be written (worksWithoutOutput).
func (c *cli) progress() io.Writer {
	if j, ok := c.stdout.(*report.Journal); ok {
		return j
	}
	return c.out
}

// worksWithoutOutput marks a command whose exit code describes its work, even if
// the output cannot be written: systemd evaluates it.
const worksWithoutOutput = "works-without-output"

// works adds worksWithoutOutput to the annotations of a command.
func works(annotations map[string]string) map[string]string {
	annotations[worksWithoutOutput] = "yes"
	return annotations
}

// finishOutput reports that stdout could not be written, and returns the exit code
// of a command that returned err. A result that could not be printed is a failure
// (exit code 1), unless the command works without output.
func (c *cli) finishOutput(cmd *cobra.Command, out *output, err error) int {
	code, failure := app.ExitCode(err), out.failure()
	switch {
	case failure == nil:
		return code
	case cmd.Annotations[worksWithoutOutput] != "":
		fmt.Fprintf(c.errs, "firstboot: warning: %v\n", failure)
		return code
	}
	fmt.Fprintf(c.errs, "firstboot: error: %v\n", failure)
	var reported *app.ReportedError
	if errors.As(err, &reported) || err == nil {
		return app.ExitFailed
	}
	return code
}

// isOutputError reports whether err only means that stdout cannot be written.
// finishOutput reports it.
func isOutputError(err error) bool {
	var failed *outputError
	return errors.As(err, &failed)
}
