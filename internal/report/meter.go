package report

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Meter shows the progress of one long task: on a terminal as a line that is
// redrawn, elsewhere as a line at every tenth.
type Meter struct {
	mu    sync.Mutex
	out   io.Writer
	term  Terminal
	now   func() time.Time
	step  string
	began time.Time
	drawn time.Time
	tenth int64
	shown bool // the redrawn line is on the terminal
}

// NewMeter returns a Meter that writes to out. now is time.Now.
func NewMeter(out io.Writer, term Terminal, now func() time.Time) *Meter {
	return &Meter{out: out, term: term, now: now}
}

// Progress shows that done of total bytes of a step are finished. A total of 0
// means that the total is unknown.
func (m *Meter) Progress(step string, done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if step != m.step {
		m.step, m.began, m.tenth, m.drawn = step, now, -1, time.Time{}
	}
	tenth := done / 1e9 // of an unknown total: every GB
	if total > 0 {
		tenth = done * 10 / total
	}
	switch {
	case m.term.Live && now.Sub(m.drawn) >= redrawInterval:
		m.erase()
		fmt.Fprint(m.out, m.term.cut("firstboot: "+m.text(now, done, total)))
		m.drawn, m.shown = now, true
	case !m.term.Live && tenth > m.tenth:
		fmt.Fprintln(m.out, "firstboot: "+m.text(now, done, total))
		m.tenth = tenth
	}
}

func (m *Meter) text(now time.Time, done, total int64) string {
	text := m.step + ", " + Bytes(done)
	if total > 0 {
		text += fmt.Sprintf(" of %s (%d %%)", Bytes(total), done*100/total)
	}
	return text + ", " + Elapsed(now.Sub(m.began))
}

// Printf prints a line that stays on the screen.
func (m *Meter) Printf(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.erase()
	fmt.Fprintln(m.out, "firstboot: "+clean(fmt.Sprintf(format, args...)))
}

// Close removes the redrawn line.
func (m *Meter) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.erase()
}

// erase removes the redrawn line from the terminal (ECMA-48 EL).
func (m *Meter) erase() {
	if m.shown {
		fmt.Fprint(m.out, "\r\x1b[K")
		m.shown = false
	}
}
