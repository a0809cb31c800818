package report

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
)

// screenInterval is the least time between two changes of the login screen: a
// new prompt disturbs whoever is about to log in.
const screenInterval = 10 * time.Second

// LoginScreen shows on the login screen and in the message of the day what a run
// waits for, and what has failed. It writes below /run only.
type LoginScreen struct {
	messages BootMessages
	began    time.Time
	order    []string

	mu      sync.Mutex
	waits   map[string]string // by stage
	failed  map[string]string // by stage
	shown   string
	written time.Time
}

// NewLoginScreen shows a run of the named stages. Errors are ignored: a later
// change of the text writes it again.
func NewLoginScreen(messages BootMessages, stages []string, began time.Time) *LoginScreen {
	l := &LoginScreen{messages: messages, order: stages, began: began, waits: map[string]string{}, failed: map[string]string{}}
	l.show(began)
	return l
}

// Event shows what an event changes (engine.Options.Events).
func (l *LoginScreen) Event(e engine.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Kind {
	case engine.Waiting:
		l.waits[e.Stage] = fmt.Sprintf("%s is waiting for %s since %s", e.Stage, clean(e.Message), clock(e.Since))
		if e.Err != nil {
			l.waits[e.Stage] += ": " + clean(errorText(e.Err))
		}
	case engine.Retrying:
		l.waits[e.Stage] = fmt.Sprintf("%s failed in attempt %d and is tried again: %s", e.Stage, e.Attempt-1, clean(errorText(e.Err)))
	case engine.Failed:
		delete(l.waits, e.Stage)
		l.failed[e.Stage] = fmt.Sprintf("%s failed: %s", e.Stage, clean(errorText(e.Err)))
	default:
		delete(l.waits, e.Stage)
	}
	l.show(e.Time)
}

// Wait shows what the run waits for before its first stage.
func (l *LoginScreen) Wait(text string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waits[""] = clean(text)
	l.show(now)
	delete(l.waits, "")
}

func (l *LoginScreen) show(now time.Time) {
	text := l.text()
	if text == l.shown || now.Sub(l.written) < screenInterval {
		return
	}
	l.shown, l.written = text, now
	_ = l.messages.write(text)
}

func (l *LoginScreen) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "firstboot: this host is joining its Calico network: %sstarted at %s\n", attemptText(l.messages.Attempt), clock(l.began))
	for _, lines := range []map[string]string{l.failed, l.waits} {
		for _, stage := range slices.Concat([]string{""}, l.order) {
			if lines[stage] != "" {
				b.WriteString("  " + lines[stage] + "\n")
			}
		}
	}
	writeAdvice(&b, Advice{"the run continues by itself", []Command{{Line: "firstboot status --wait"}}}, defaultWidth)
	return b.String()
}

// attemptText names an attempt; "" if it is not known.
func attemptText(attempt int) string {
	if attempt <= 0 {
		return ""
	}
	return fmt.Sprintf("attempt %d, ", attempt)
}
