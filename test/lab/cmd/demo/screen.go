package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/projecteru2/firstboot/test/lab"
)

// screen prints the demo's output. It can be used by several goroutines: lines are
// never mixed.
type screen struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
	start  time.Time
}

func newScreen(f *os.File) *screen {
	return &screen{out: f, colour: term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "", start: time.Now()}
}

func (s *screen) plain(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	io.WriteString(s.out, text)
}

func (s *screen) title(text string) {
	if s.colour {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	s.plain("\n" + text + "\n")
}

// step prints a line of progress during the preparation.
func (s *screen) step(format string, args ...any) {
	s.plain(fmt.Sprintf("  %5s  %s\n", time.Since(s.start).Round(time.Second), fmt.Sprintf(format, args...)))
}

// hostColours distinguish hosts: cyan, magenta, yellow, blue, green.
var hostColours = []string{"36", "35", "33", "34", "32"}

// follow prints firstboot's lines of a host's console, and the login prompt.
func (s *screen) follow(ctx context.Context, h *lab.Host, start time.Time, _ int) {
	name := fmt.Sprintf("%-8s", h.Name)
	if s.colour {
		digit := int(h.Name[len(h.Name)-1])
		name = "\x1b[" + hostColours[digit%len(hostColours)] + "m" + name + "\x1b[0m"
	}
	prompted := false                                  // agetty prints its prompt again after each change of the login screen
	_ = h.Console.Follow(ctx, func(line string) bool { // the only error is the end of the context
		text, ok := selectLine(line)
		if ok && (text != loginPrompt || !prompted) {
			prompted = prompted || text == loginPrompt
			s.plain(fmt.Sprintf("%s %5s  %s\n", name, time.Since(start).Round(time.Second), text))
		}
		return true
	})
}

// fromUnit matches a line of firstboot's unit on the console. systemd 252 puts the
// time and the process before it, systemd 257 nothing.
var fromUnit = regexp.MustCompile(`(?:firstboot\[\d+\]: |^|login: )(firstboot: .*)`)

// loginPrompt is printed in place of the console's first prompt.
const loginPrompt = "(the console's login prompt)"

// selectLine returns the text to print for a console line, and whether to print it.
func selectLine(line string) (string, bool) {
	if found := fromUnit.FindStringSubmatch(line); found != nil {
		return strings.TrimRight(found[1], " "), true
	}
	switch {
	case strings.Contains(line, "Debian GNU/Linux"):
		return loginPrompt, true
	case strings.Contains(line, "Kernel panic"):
		return line, true
	}
	return "", false
}

// kept prints how to access and stop the running lab.
func (s *screen) kept(l *lab.Lab) {
	s.title("The machines are still running")
	var text strings.Builder
	for _, h := range l.Hosts {
		fmt.Fprintf(&text, "  a shell on %s    make demo-shell HOST=%s\n", h.Name, h.Name)
	}
	fmt.Fprintf(&text, "  stop them          make demo-stop\n")
	s.plain(text.String())
}
