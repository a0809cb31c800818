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

// Where a failure is shown to whoever looks at the console or logs in.
//
// agetty (util-linux 2.35 and later) reads /run/issue.d only on machines
// without /etc/issue, measured with 2.38; so an image should carry IssueLink as
// a symbolic link to RunIssue. A refused run then reaches the login screen and
// has still written nothing outside /run and firstboot's own folder. A link
// that leads nowhere shows nothing. pam_motd (Linux-PAM 1.3.1 and later) reads
// /run/motd.d by default.
const (
	RunIssue  = "/run/issue.d/firstboot.issue"
	RunMotd   = "/run/motd.d/firstboot"
	IssueLink = "/etc/issue.d/firstboot.issue"
)

// BootMessages writes the message of the login screen and of the day.
type BootMessages struct {
	// State writes below /run; Machine elsewhere, so that a reset knows of it.
	State, Machine *host.Host
}

// Show writes why the run ended in state, what happens next and what to type.
// A refused run writes below /run only; a failed one also to IssueLink, where
// that is not a link, so that the message outlives a reboot.
func (b BootMessages) Show(st state.State, cause error, advice Advice, now time.Time) error {
	text := bootMessage(st, cause, advice, now)
	issue := []byte(escapeIssue(text))
	err := errors.Join(
		b.State.WriteFile(RunIssue, issue, 0o644),
		b.State.WriteFile(RunMotd, []byte(text), 0o644))
	defer b.reload()
	if b.State.Readlink(IssueLink) != "" {
		return err
	}
	if st == state.Refused {
		return errors.Join(err, b.dropIssue())
	}
	return errors.Join(err, b.Machine.WriteFile(IssueLink, issue, 0o644))
}

// Clear takes the messages away again.
func (b BootMessages) Clear() error {
	var errs []error
	for _, path := range []string{RunIssue, RunMotd} {
		if b.State.Exists(path) {
			errs = append(errs, b.State.Remove(path))
		}
	}
	defer b.reload()
	return errors.Join(append(errs, b.dropIssue())...)
}

// reload makes the login prompts that are on the screens show the message as
// it is now. Where that is not possible the next login does.
func (b BootMessages) reload() {
	if b.Machine.Live() {
		_, _ = b.Machine.Run(context.Background(), host.Command{Name: "agetty", Args: []string{"--reload"}, Timeout: reloadTime})
	}
}

// reloadTime bounds agetty --reload, which only touches a file.
const reloadTime = 5 * time.Second

// dropIssue removes an earlier failure's message; an image's link stays.
func (b BootMessages) dropIssue() error {
	if b.State.Readlink(IssueLink) != "" || !b.State.Exists(IssueLink) {
		return nil
	}
	return b.Machine.Remove(IssueLink)
}

func bootMessage(st state.State, cause error, advice Advice, now time.Time) string {
	var b strings.Builder
	ended := "failed"
	if st == state.Refused {
		ended = "was refused"
	}
	fmt.Fprintf(&b, "firstboot: this host is NOT a member of its Calico network: the run %s at %s\n", ended,
		now.UTC().Format("2006-01-02 15:04:05 UTC"))
	for _, line := range Explain(cause) {
		b.WriteString("  " + line + "\n")
	}
	writeAdvice(&b, advice)
	return b.String()
}

func writeAdvice(b *strings.Builder, a Advice) {
	if a.Next != "" {
		b.WriteString("next: " + a.Next + "\n")
	}
	for i, command := range a.Type {
		label := "type: "
		if i > 0 {
			label = "  or: "
		}
		b.WriteString(label + command + "\n")
	}
}

// escapeIssue keeps agetty from reading a backslash as one of its escapes.
func escapeIssue(text string) string { return strings.ReplaceAll(text, `\`, `\\`) }

// WriteFailure says on w that and why a run ended in state, what happens next
// and what to type. Stages were shown as they failed, so they are only named.
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
	writeAdvice(&next, advice)
	for line := range strings.Lines(next.String()) {
		b.WriteString("firstboot: " + line)
	}
	// Whoever does not read it still has the exit code.
	_, _ = io.WriteString(w, b.String())
}
