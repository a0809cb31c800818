package machine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"
)

// pollInterval is the time between two reads of a followed console.
const pollInterval = 50 * time.Millisecond

// maxLine limits the length of a console line, in bytes.
const maxLine = 64 << 10

// Console is the output of a machine's serial console since the machine was created.
type Console struct {
	Path string
}

// Text returns all output, without control characters.
func (c *Console) Text() string {
	data, err := os.ReadFile(c.Path)
	if err != nil {
		return "" // not started yet
	}
	return Clean(string(data))
}

// Tail returns the last n lines.
func (c *Console) Tail(n int) string {
	lines := strings.Split(strings.TrimRight(c.Text(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Follow calls line for every line of the console, from the start, until line
// returns false or the context ends. It waits for new lines.
func (c *Console) Follow(ctx context.Context, line func(text string) bool) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var f *os.File
	var rest []byte
	for {
		var err error
		if f == nil {
			if f, err = os.Open(c.Path); err == nil {
				defer f.Close()
			} else if !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if f != nil {
			data, err := io.ReadAll(f)
			if err != nil {
				return err
			}
			var more bool
			if rest, more = eachLine(append(rest, data...), line); !more {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// eachLine calls line for every complete line and returns the remaining bytes.
func eachLine(data []byte, line func(string) bool) (rest []byte, more bool) {
	for {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			if len(data) > maxLine {
				data = data[len(data)-maxLine:]
			}
			return data, true
		}
		if !line(Clean(string(data[:end]))) {
			return data[end+1:], false
		}
		data = data[end+1:]
	}
}

// Clean removes carriage returns, colours and other control characters, which
// must not be printed on a terminal.
func Clean(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == 0x1b:
			i = skipEscape(text, i)
		case ch == 0xc2 && i+1 < len(text) && text[i+1] >= 0x80 && text[i+1] < 0xa0:
			i++ // U+0080 to U+009F are control characters as well
		case ch == '\n' || ch == '\t' || ch >= ' ' && ch != 0x7f:
			out.WriteByte(ch)
		}
	}
	return out.String()
}

// skipEscape returns the index of the last byte of the escape sequence at i:
// ESC [ … letter, or ESC and one byte.
func skipEscape(text string, i int) int {
	i++
	if i >= len(text) || text[i] != '[' {
		return i
	}
	for i++; i < len(text) && (text[i] < '@' || text[i] > '~'); i++ {
	}
	return i
}
