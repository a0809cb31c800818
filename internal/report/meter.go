package report

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Meter shows how far one long piece of work is: on a terminal a line that
// moves, elsewhere a line at every tenth of it.
type Meter struct {
	mu    sync.Mutex
	out   io.Writer
	term  Terminal
	now   func() time.Time
	step  string
	began time.Time
	drawn time.Time
	tenth int64
	moved bool // a moving line is on the terminal
}

// NewMeter shows on out. now is time.Now.
func NewMeter(out io.Writer, term Terminal, now func() time.Time) *Meter {
	return &Meter{out: out, term: term, now: now}
}

// Moved tells that a step is done bytes far, of total; 0: of how many is not
// known.
func (m *Meter) Moved(step string, done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if step != m.step {
		m.step, m.began, m.tenth, m.drawn = step, now, -1, time.Time{}
	}
	tenth := done >> 30 // of an unknown whole: every GiB
	if total > 0 {
		tenth = done * 10 / total
	}
	switch {
	case m.term.Live && now.Sub(m.drawn) >= redraw:
		m.erase()
		fmt.Fprint(m.out, m.term.cut("firstboot: "+m.text(now, done, total)))
		m.drawn, m.moved = now, true
	case !m.term.Live && tenth > m.tenth:
		fmt.Fprintln(m.out, "firstboot: "+m.text(now, done, total))
		m.tenth = tenth
	}
}

func (m *Meter) text(now time.Time, done, total int64) string {
	text := fmt.Sprintf("%s, %d MiB", m.step, done>>20)
	if total > 0 {
		text += fmt.Sprintf(" of %d (%d%%)", total>>20, done*100/total)
	}
	return text + ", " + Elapsed(now.Sub(m.began))
}

// Say prints a line that stays.
func (m *Meter) Say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.erase()
	fmt.Fprintln(m.out, "firstboot: "+clean(fmt.Sprintf(format, args...)))
}

// Close takes the moving line away.
func (m *Meter) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.erase()
}

// erase takes the moving line off the terminal (ECMA-48 EL).
func (m *Meter) erase() {
	if m.moved {
		fmt.Fprint(m.out, "\r\x1b[K")
		m.moved = false
	}
}
