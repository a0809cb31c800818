package report

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Colours, as SGR sequences (ECMA-48).
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	dim    = "\x1b[2m"
	plain  = "\x1b[0m"
)

// Terminal describes what the output supports.
type Terminal struct {
	Live   bool       // lines can be overwritten
	Colour bool       // colours are wanted and supported
	Width  func() int // columns; called before each drawing
}

// TerminalOf examines out. getenv is os.Getenv.
func TerminalOf(out io.Writer, getenv func(string) string) Terminal {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) { //nolint:gosec // descriptors are small
		return Terminal{}
	}
	capable := getenv("TERM") != "dumb" && getenv("TERM") != ""
	return Terminal{
		Live:   capable,
		Colour: capable && getenv("NO_COLOR") == "",
		Width: func() int {
			width, _, err := term.GetSize(int(f.Fd())) //nolint:gosec // descriptors are small
			if err != nil || width < 20 {
				return 80 // the usual width, for terminals that do not report theirs
			}
			return width
		},
	}
}

// paint colours text if the terminal supports it.
func (t Terminal) paint(colour, text string) string {
	if !t.Colour {
		return text
	}
	return colour + text + plain
}

// cut shortens a line to the terminal's width, so that it stays one line.
func (t Terminal) cut(line string) string {
	runes := []rune(line)
	if t.Width == nil {
		return line
	}
	if width := t.Width(); len(runes) >= width {
		return string(runes[:width-2]) + "…"
	}
	return line
}
