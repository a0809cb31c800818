package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCleanRemovesControlCharacters(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[0;32m  OK  \x1b[0m] Reached\r\n": "  OK  ] Reached\n",
		"\x1b[2J\x1b[Hlogin: \x07":             "login: ",
		"a\x1bcb":                              "ab",
		"cut \x1b[0;3":                         "cut ",
		"end\x1b":                              "end",
		"grün\ttab\x7f":                        "grün\ttab",
		"a\u009b31mb":                          "a31mb",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFollowWaitsForCompleteLines(t *testing.T) {
	c := &Console{Path: filepath.Join(t.TempDir(), "console.txt")}
	write := func(text string) {
		f, err := os.OpenFile(c.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.WriteString(text)
	}
	write("one\r\ntw")
	var seen []string
	err := c.Follow(t.Context(), func(line string) bool {
		seen = append(seen, line)
		if line == "one" {
			write("o\nthree\nfour\n")
		}
		return line != "three"
	})
	if got := strings.Join(seen, ","); err != nil || got != "one,two,three" {
		t.Errorf("lines are %s (%v), want one,two,three", got, err)
	}
	if got := c.Tail(2); got != "three\nfour" {
		t.Errorf("the tail is %q", got)
	}
}

func TestFollowEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &Console{Path: filepath.Join(t.TempDir(), "never")}
	if err := c.Follow(ctx, func(string) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("Follow of a missing file: %v, want context.Canceled", err)
	}
	if c.Text() != "" {
		t.Error("a machine that never ran has console output")
	}
}

func TestLongLineIsTruncated(t *testing.T) {
	rest, _ := eachLine(make([]byte, 3*maxLine), func(string) bool { return true })
	if len(rest) != maxLine {
		t.Errorf("%d bytes are kept, want %d", len(rest), maxLine)
	}
}
