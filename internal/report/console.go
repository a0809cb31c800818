package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
)

// Console shows a run. On a terminal the stages under way are drawn anew below
// the finished ones; elsewhere every line stays, and what repeats is thinned
// out.
type Console struct {
	mu    sync.Mutex
	out   io.Writer
	term  Terminal
	order []string
	rows  map[string]*row // the stages under way
	drawn int             // lines of the moving part now on the terminal
	last  time.Time       // when it was drawn
	stop  chan struct{}
	ended sync.WaitGroup
}

// redraw is the pause between two drawings on a terminal; look the one between
// two looks for a stage that has said nothing for long.
const (
	redraw = 200 * time.Millisecond
	look   = time.Second
)

// NewConsole shows the run of the named stages, in this order, until Close.
func NewConsole(out io.Writer, term Terminal, stages []string) *Console {
	c := &Console{out: out, term: term, order: stages, rows: map[string]*row{}, stop: make(chan struct{})}
	c.ended.Go(c.tick)
	return c
}

// Close ends the moving part. Events after it are still printed.
func (c *Console) Close() {
	c.mu.Lock()
	c.erase()
	c.term.Live = false
	c.mu.Unlock()
	close(c.stop)
	c.ended.Wait()
}

// tick moves clocks on, and says what has been silent for long.
func (c *Console) tick() {
	every := look
	if c.term.Live {
		every = redraw
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case now := <-ticker.C:
			c.mu.Lock()
			if c.term.Live {
				c.draw(now)
			} else {
				c.silent(now)
			}
			c.mu.Unlock()
		}
	}
}

// Say prints a line that is about no stage.
func (c *Console) Say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.print("firstboot: " + clean(fmt.Sprintf(format, args...)))
}

// Event shows one event (engine.Options.Events).
func (c *Console) Event(e engine.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.rows[e.Stage]
	if !ok {
		r = newRow(e)
		if e.Kind != engine.Skipped {
			c.rows[e.Stage] = r
		}
	}
	r.apply(e)
	switch e.Kind {
	case engine.Waiting, engine.Progressed:
		if c.term.Live {
			if e.Time.Sub(c.last) >= redraw {
				c.draw(e.Time)
			}
		} else if r.worth(e) {
			c.line(e.Stage, r.text(e.Time))
		}
	case engine.Retrying:
		c.line(e.Stage, c.term.paint(yellow, fmt.Sprintf("attempt %d failed", e.Attempt-1))+
			fmt.Sprintf(": %s; next try in %s", clean(errorText(e.Err)), whole(e.Next.Sub(e.Time))))
	case engine.Warned:
		c.line(e.Stage, c.term.paint(yellow, "warning")+": "+clean(e.Message))
	case engine.Done, engine.Failed, engine.Skipped:
		delete(c.rows, e.Stage)
		c.end(e)
	}
}

// end prints a stage's last line.
func (c *Console) end(e engine.Event) {
	switch {
	case e.Kind == engine.Skipped:
		c.line(e.Stage, c.term.paint(dim, "skipped")+": "+e.Message+" is not done")
	case e.Kind == engine.Done && e.Changed:
		c.line(e.Stage, c.term.paint(green, "done")+", "+Elapsed(e.Elapsed())+" (changed)")
	case e.Kind == engine.Done:
		c.line(e.Stage, c.term.paint(green, "done")+", "+Elapsed(e.Elapsed())+" (ok)")
	case stopped(e.Err):
		c.line(e.Stage, c.term.paint(yellow, "interrupted")+", "+Elapsed(e.Elapsed()))
	default:
		lines := append(Explain(e.Err), "")
		c.line(e.Stage, c.term.paint(red, "failed")+", "+Elapsed(e.Elapsed())+": "+lines[0])
		for _, more := range lines[1 : len(lines)-1] {
			c.print("firstboot:   " + more)
		}
	}
}

// stopped tells a run that was told to end from a stage that ran out of time.
func stopped(err error) bool { return engine.Interrupted(err) && !timedOut(err) }

// silent says what the stages are at that have said nothing for long.
func (c *Console) silent(now time.Time) {
	for _, name := range c.order {
		if r, ok := c.rows[name]; ok && r.overdue(now) {
			c.line(name, r.text(now))
		}
	}
}

// line prints one line of a stage: its name, its position, what happened.
func (c *Console) line(stage, text string) { c.print(c.head(stage) + text) }

func (c *Console) head(stage string) string {
	width := 0
	for _, name := range c.order {
		width = max(width, len(name))
	}
	position := fmt.Sprintf("(%d/%d)", slices.Index(c.order, stage)+1, len(c.order))
	return fmt.Sprintf("firstboot: %-*s %-*s ", width, stage, 2*len(fmt.Sprint(len(c.order)))+3, position)
}

// print puts a line that stays above the moving part.
func (c *Console) print(line string) {
	c.erase()
	// Nobody may be looking any more (a closed pipe); the run goes on.
	_, _ = io.WriteString(c.out, line+"\n")
	if c.term.Live {
		c.draw(time.Now())
	}
}

// draw replaces the moving part.
func (c *Console) draw(now time.Time) {
	c.erase()
	c.last = now
	var b strings.Builder
	for _, name := range c.order {
		if r, ok := c.rows[name]; ok {
			b.WriteString(c.term.paint(dim, c.term.cut(c.head(name)+r.text(now))) + "\n")
			c.drawn++
		}
	}
	_, _ = io.WriteString(c.out, b.String())
}

// erase takes the moving part off the terminal: to its first line, then
// everything below is cleared (ECMA-48 CPL and ED).
func (c *Console) erase() {
	if c.drawn > 0 {
		_, _ = fmt.Fprintf(c.out, "\x1b[%dF\x1b[J", c.drawn)
		c.drawn = 0
	}
}

func errorText(err error) string {
	if err == nil {
		return "unknown error"
	}
	return err.Error()
}

func timedOut(err error) bool {
	var late interface{ Timeout() bool }
	return errors.As(err, &late) && late.Timeout()
}
