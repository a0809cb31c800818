package tunnel

import (
	"fmt"
	"sync"
	"time"
)

// Level is the priority of a line.
type Level int

// The levels, with the numbers of sd-daemon(3).
const (
	Warning Level = 4
	Info    Level = 6
)

// logInterval is the time between two lines of the same kind.
const logInterval = time.Minute

// limitedLog prints at most one line of a kind per logInterval, and how many it
// left out. A client that repeats a mistake does not fill the journal.
type limitedLog struct {
	mu    sync.Mutex
	out   func(Level, string)
	kinds map[string]*kind
	now   func() time.Time
}

// kind is what was printed of one kind.
type kind struct {
	printed time.Time
	omitted int
}

func newLimitedLog(out func(Level, string)) *limitedLog {
	return &limitedLog{out: out, kinds: map[string]*kind{}, now: time.Now}
}

// print prints a line unless one of its kind was just printed.
func (l *limitedLog) print(level Level, name, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, now := l.kinds[name], l.now()
	if k == nil {
		k = &kind{}
		l.kinds[name] = k
	} else if now.Sub(k.printed) < logInterval {
		k.omitted++
		return
	}
	if k.omitted > 0 {
		line += fmt.Sprintf(" (and %d more since %s)", k.omitted, k.printed.UTC().Format("15:04:05 UTC"))
	}
	*k = kind{printed: now}
	l.out(level, line)
}

// once prints a line unless one of its kind was printed before.
func (l *limitedLog) once(level Level, name, line string) {
	l.mu.Lock()
	seen := l.kinds[name] != nil
	l.mu.Unlock()
	if !seen {
		l.print(level, name, line)
	}
}

// again makes the next line of a kind be printed at once.
func (l *limitedLog) again(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.kinds[name]; k != nil {
		k.printed = time.Time{}
		k.omitted = 0
	}
}
