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

// Terminal is what the output can do.
type Terminal struct {
	Live   bool       // lines can be overwritten
	Colour bool       // colours are wanted and can be shown
	Width  func() int // columns; asked anew before each drawing
}

// TerminalOf finds out what out can do. getenv is os.Getenv.
func TerminalOf(out io.Writer, getenv func(string) string) Terminal {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) { //nolint:gosec // descriptors are small
		return Terminal{}
	}
	able := getenv("TERM") != "dumb" && getenv("TERM") != ""
	return Terminal{
		Live:   able,
		Colour: able && getenv("NO_COLOR") == "",
		Width: func() int {
			width, _, err := term.GetSize(int(f.Fd())) //nolint:gosec // descriptors are small
			if err != nil || width < 20 {
				return 80 // the width of a terminal that does not tell its own
			}
			return width
		},
	}
}

// paint puts text into a colour where colours can be shown.
func (t Terminal) paint(colour, text string) string {
	if !t.Colour {
		return text
	}
	return colour + text + plain
}

// cut shortens a line to the terminal's width, so that it stays one line.
func (t Terminal) cut(line string) string {
	letters := []rune(line)
	if t.Width == nil {
		return line
	}
	if width := t.Width(); len(letters) >= width {
		return string(letters[:width-2]) + "…"
	}
	return line
}
