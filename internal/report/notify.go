package report

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/projecteru2/firstboot/internal/engine"
)

// Notifier sends the progress of a run to systemd. `systemctl status` shows it,
// and so does the console while the unit starts.
type Notifier struct {
	mu     sync.Mutex
	order  []string
	notify func(text string)
	sent   string
	last   time.Time
}

// NewNotifier sends to $NOTIFY_SOCKET; if that is not set, nothing is sent.
func NewNotifier(stages []string) *Notifier {
	return &Notifier{order: stages, notify: func(text string) {
		// A status line that is lost does not affect the run.
		_, _ = daemon.SdNotify(false, text)
	}}
}

// Event sends what the event's stage does now. Progress is sent at most once a
// second.
func (n *Notifier) Event(e engine.Event) {
	text := statusText(e)
	if text == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Kind == engine.Progressed && e.Time.Sub(n.last) < time.Second {
		return
	}
	n.last = e.Time
	n.sendChanged(fmt.Sprintf("%d/%d %s: %s", slices.Index(n.order, e.Stage)+1, len(n.order), e.Stage, text))
}

// Send sends a line that belongs to no stage.
func (n *Notifier) Send(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sendChanged(clean(text))
}

func (n *Notifier) sendChanged(text string) {
	if text != n.sent {
		n.sent = text
		n.notify("STATUS=" + text)
	}
}

func statusText(e engine.Event) string {
	switch e.Kind {
	case engine.Started:
		return "checking"
	case engine.Applying:
		return applyText(e.Check)
	case engine.Progressed:
		if e.Total > 0 {
			return fmt.Sprintf("%s (%d %%)", clean(e.Message), min(100, max(0, e.Done)*100/e.Total))
		}
		return clean(e.Message)
	case engine.Waiting:
		text := fmt.Sprintf("waiting for %s since %s (%s)", clean(e.Message), timeOfDay(e.Since), wholeSeconds(e.Elapsed()))
		if e.Err != nil {
			text += ": " + clean(e.Err.Error())
		}
		if next := e.Next.Sub(e.Time); next > 0 {
			text += "; next attempt in " + wholeSeconds(next)
		}
		return text
	case engine.Retrying:
		return "retrying: " + clean(errorText(e.Err))
	case engine.Done:
		return "done"
	case engine.Stopped:
		return clean(errorText(e.Err))
	case engine.Failed:
		return "failed: " + clean(errorText(e.Err))
	}
	return ""
}
