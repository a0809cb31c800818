package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/projecteru2/firstboot/internal/engine"
)

// Console shows a run. On a terminal it redraws the running stages below the
// finished ones. Elsewhere every line stays, and repeated lines are printed at
// a decreasing rate.
type Console struct {
	order []string

	mu      sync.Mutex
	out     io.Writer
	term    Terminal
	running map[string]*row // by stage
	drawn   int             // lines of the moving part now on the terminal
	last    time.Time       // when it was drawn
	stop    chan struct{}
	ticker  sync.WaitGroup
}

// redrawInterval is the pause between two drawings on a terminal.
// quietInterval is the pause between two checks for a stage that has printed
// nothing for long.
const (
	redrawInterval = 200 * time.Millisecond
	quietInterval  = time.Second
)

// NewConsole shows the run of the named stages, in this order, until Close.
func NewConsole(out io.Writer, term Terminal, stages []string) *Console {
	c := &Console{out: out, term: term, order: stages, running: map[string]*row{}, stop: make(chan struct{})}
	interval := quietInterval
	if term.Live {
		interval = redrawInterval
	}
	c.ticker.Go(func() { c.tick(interval) })
	return c
}

// Close ends the moving part. Events after it are still printed.
func (c *Console) Close() {
	c.mu.Lock()
	c.erase()
	c.term.Live = false
	c.mu.Unlock()
	close(c.stop)
	c.ticker.Wait()
}

// tick redraws the moving part, or prints a line of each stage that has
// printed nothing for long.
func (c *Console) tick(interval time.Duration) {
	ticker := time.NewTicker(interval)
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
				c.printOverdue(now)
			}
			c.mu.Unlock()
		}
	}
}

// Printf prints a line that belongs to no stage.
func (c *Console) Printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.print(parseLine(clean(fmt.Sprintf(format, args...))))
}

// Event shows one event (engine.Options.Events).
func (c *Console) Event(e engine.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.running[e.Stage]
	if !ok {
		r = newRow(e)
		if e.Kind != engine.Skipped {
			c.running[e.Stage] = r
		}
	}
	r.apply(e)
	switch e.Kind {
	case engine.Waiting, engine.Progressed:
		if c.term.Live {
			if e.Time.Sub(c.last) >= redrawInterval {
				c.draw(e.Time)
			}
		} else if r.needsLine(e) {
			c.printEvent(e, priorityOf(e.Kind), r.text(e.Time))
		}
	case engine.Retrying:
		c.printEvent(e, journal.PriWarning, c.term.paint(yellow, fmt.Sprintf("attempt %d failed", e.Attempt-1))+
			fmt.Sprintf(": %s; next attempt in %s", clean(errorText(e.Err)), wholeSeconds(e.Next.Sub(e.Time))))
	case engine.Warned:
		c.printEvent(e, journal.PriWarning, c.term.paint(yellow, "warning")+": "+clean(e.Message))
	case engine.Done, engine.Failed, engine.Stopped, engine.Interrupted, engine.Skipped:
		delete(c.running, e.Stage)
		c.printEnd(e)
	}
}

// printEnd prints a stage's last line.
func (c *Console) printEnd(e engine.Event) {
	elapsed := Elapsed(e.Elapsed())
	switch {
	case e.Kind == engine.Skipped:
		c.printEvent(e, journal.PriNotice, c.term.paint(dim, "skipped")+": "+e.Message+" is not done")
	case e.Kind == engine.Done && e.Changed:
		c.printEvent(e, journal.PriInfo, c.term.paint(green, "done")+", "+elapsed+" (changed)")
	case e.Kind == engine.Done:
		c.printEvent(e, journal.PriInfo, c.term.paint(green, "done")+", "+elapsed+" (ok)")
	case e.Kind == engine.Interrupted:
		c.printEvent(e, journal.PriNotice, c.term.paint(yellow, "interrupted")+", "+elapsed)
	case e.Kind == engine.Stopped:
		c.printEvent(e, journal.PriNotice, c.term.paint(dim, "skipped")+", "+elapsed+": "+clean(errorText(e.Err)))
	default:
		lines := append(Explain(e.Err), "")
		c.printEvent(e, journal.PriErr, c.term.paint(red, "failed")+", "+elapsed+": "+lines[0])
		for _, more := range lines[1 : len(lines)-1] {
			c.print(eventLine(e, journal.PriErr, "  "+more))
		}
	}
}

// printOverdue prints what the stages are doing that have printed nothing for
// long.
func (c *Console) printOverdue(now time.Time) {
	for _, name := range c.order {
		if r, ok := c.running[name]; ok && r.overdue(now) {
			c.print(Line{Text: c.prefix(name) + r.text(now), Priority: journal.PriInfo, Stage: name})
		}
	}
}

// printEvent prints one line of a stage: its name, its position and text.
func (c *Console) printEvent(e engine.Event, p journal.Priority, text string) {
	c.print(eventLine(e, p, c.prefix(e.Stage)+text))
}

// priorityOf returns the priority of a line about a stage that still runs.
func priorityOf(kind engine.Kind) journal.Priority {
	if kind == engine.Waiting {
		return journal.PriNotice
	}
	return journal.PriInfo
}

func eventLine(e engine.Event, p journal.Priority, text string) Line {
	l := Line{Text: text, Priority: p, Stage: e.Stage, Attempt: e.Attempt, Cause: e.Err}
	if e.Kind == engine.Retrying {
		l.Attempt-- // the attempt that failed
	}
	return l
}

func (c *Console) prefix(stage string) string {
	width := 0
	for _, name := range c.order {
		width = max(width, len(name))
	}
	position := fmt.Sprintf("(%d/%d)", slices.Index(c.order, stage)+1, len(c.order))
	return fmt.Sprintf("%-*s %-*s ", width, stage, 2*len(fmt.Sprint(len(c.order)))+3, position)
}

// print prints a line that stays above the moving part.
func (c *Console) print(line Line) {
	if journal, ok := c.out.(interface{ Log(Line) }); ok {
		journal.Log(line)
		return
	}
	c.erase()
	// A closed pipe must not end the run.
	_, _ = io.WriteString(c.out, "firstboot: "+line.Text+"\n")
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
		if r, ok := c.running[name]; ok {
			b.WriteString(c.term.paint(dim, c.term.cut("firstboot: "+c.prefix(name)+r.text(now))) + "\n")
			c.drawn++
		}
	}
	_, _ = io.WriteString(c.out, b.String())
}

// erase removes the moving part: it moves the cursor to its first line and
// clears everything below (ECMA-48 CPL and ED).
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
