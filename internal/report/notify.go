package report

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/projecteru2/firstboot/internal/engine"
)

// Notifier tells systemd what the run is at: `systemctl status` shows it, and
// the boot's console, for as long as the unit starts.
type Notifier struct {
	mu     sync.Mutex
	order  []string
	notify func(text string)
	sent   string
	last   time.Time
}

// NewNotifier speaks to systemd over $NOTIFY_SOCKET; without one it says
// nothing.
func NewNotifier(stages []string) *Notifier {
	return &Notifier{order: stages, notify: func(text string) {
		// A status line that does not arrive changes nothing about the run.
		_, _ = daemon.SdNotify(false, text)
	}}
}

// Event sends what the event's stage is at. Progress is sent once a second at
// most.
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
	n.send(fmt.Sprintf("%d/%d %s: %s", slices.Index(n.order, e.Stage)+1, len(n.order), e.Stage, text))
}

// Say sends a line that is about no stage.
func (n *Notifier) Say(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send(clean(text))
}

func (n *Notifier) send(text string) {
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
		return applying(e.Check)
	case engine.Progressed:
		if e.Total > 0 {
			return fmt.Sprintf("%s (%d %%)", clean(e.Message), min(100, max(0, e.Done)*100/e.Total))
		}
		return clean(e.Message)
	case engine.Waiting:
		text := fmt.Sprintf("waiting for %s since %s", clean(e.Message), whole(e.Elapsed()))
		if e.Err != nil {
			text += ": " + clean(e.Err.Error())
		}
		if next := e.Next.Sub(e.Time); next > 0 {
			text += "; next try in " + whole(next)
		}
		return text
	case engine.Retrying:
		return "trying again: " + clean(errorText(e.Err))
	case engine.Done:
		return "done"
	case engine.Failed:
		return "failed: " + clean(errorText(e.Err))
	}
	return ""
}
