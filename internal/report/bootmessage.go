package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// The files that show the state of a run on the login screen and after a login.
//
// agetty (util-linux 2.35 and later) reads /run/issue.d only on machines
// without /etc/issue (measured with 2.38), so IssueLink is a symbolic link to
// RunIssue: an image has it, or else the first failed run makes it. agetty
// ignores a dangling link. pam_motd (Linux-PAM 1.3.1 and later) reads
// /run/motd.d by default. What is below /run does not survive a reboot, so no
// boot shows the state of an earlier one.
const (
	RunIssue  = "/run/issue.d/firstboot.issue"
	RunMotd   = "/run/motd.d/firstboot"
	IssueLink = "/etc/issue.d/firstboot.issue"
)

// BootMessages writes the login screen's message and the message of the day.
type BootMessages struct {
	// State writes below /run. Machine writes elsewhere and records the files
	// in the manifest.
	State, Machine *host.Host
	Attempt        int // of the run; 0 if it is not known
}

// Show writes why the run ended in state st, what happens next and what to
// type. A refused run writes below /run only. A failed run also makes IssueLink.
func (b BootMessages) Show(st state.State, cause error, advice Advice, now time.Time) error {
	outcome := "failed"
	if st == state.Refused {
		outcome = "was refused"
	}
	err := b.write(b.text(outcome, Explain(cause), advice, now))
	if st == state.Refused || b.State.Readlink(IssueLink) != "" {
		return err
	}
	// An earlier version of firstboot wrote a file.
	return errors.Join(err, b.removeIssue(), b.Machine.Symlink(RunIssue, IssueLink))
}

// ShowInterrupted writes that a person or a shutdown stopped the run. It writes
// below /run only.
func (b BootMessages) ShowInterrupted(reason string, advice Advice, now time.Time) error {
	return b.write(b.text("did not finish", []string{clean(reason)}, advice, now))
}

// write writes the messages below /run, and shows them.
func (b BootMessages) write(text string) error {
	defer b.reload()
	return errors.Join(
		b.State.WriteFile(RunIssue, []byte(escapeIssue(text)), 0o644),
		b.State.WriteFile(RunMotd, []byte(text), 0o644))
}

// Clear removes the messages.
func (b BootMessages) Clear() error {
	var errs []error
	for _, path := range []string{RunIssue, RunMotd} {
		if b.State.Exists(path) {
			errs = append(errs, b.State.Remove(path))
		}
	}
	defer b.reload()
	return errors.Join(append(errs, b.removeIssue())...)
}

// reload makes the login prompts on the screens show the current message. If
// that fails, the next login prompt shows it.
func (b BootMessages) reload() {
	if b.Machine.Live() {
		_, _ = b.Machine.Run(context.Background(), host.Command{Name: "agetty", Args: []string{"--reload"}, Timeout: reloadTimeout})
	}
}

// reloadTimeout limits agetty --reload, which only touches a file.
const reloadTimeout = 5 * time.Second

// removeIssue removes the message that an earlier version wrote; a link stays.
func (b BootMessages) removeIssue() error {
	if b.State.Readlink(IssueLink) != "" || !b.State.Exists(IssueLink) {
		return nil
	}
	return b.Machine.Remove(IssueLink)
}

// text is the message about a run that has ended.
func (b BootMessages) text(outcome string, cause []string, advice Advice, now time.Time) string {
	var text strings.Builder
	fmt.Fprintf(&text, "firstboot: this host is NOT a member of its Calico network: the run %s, %sat %s\n", outcome, attemptText(b.Attempt), clock(now))
	for _, line := range cause {
		text.WriteString("  " + line + "\n")
	}
	writeAdvice(&text, advice, defaultWidth)
	return text.String()
}

// escapeIssue escapes backslashes, which begin an escape sequence of agetty.
func escapeIssue(text string) string { return strings.ReplaceAll(text, `\`, `\\`) }

// WriteFailure writes to w why a run ended in state st, what happens next and
// what to type. The console has shown the errors of the stages, so it only names
// these stages.
func WriteFailure(w io.Writer, st state.State, cause error, advice Advice, took time.Duration) {
	var b strings.Builder
	var run *engine.Error
	if errors.As(cause, &run) {
		fmt.Fprintf(&b, "firstboot: %s after %s: %s\n", st, Elapsed(took), strings.Join(run.Order, ", "))
	} else {
		for i, line := range Explain(cause) {
			if i == 0 {
				line = "error: " + line
			}
			b.WriteString("firstboot: " + line + "\n")
		}
	}
	var next strings.Builder
	writeAdvice(&next, advice, defaultWidth)
	for line := range strings.Lines(next.String()) {
		b.WriteString("firstboot: " + line)
	}
	// The exit code reports the failure even if this text cannot be written.
	_, _ = io.WriteString(w, b.String())
}
