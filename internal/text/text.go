// Package text makes text that others wrote (servers, programs, etcd, Docker)
// fit for messages, files and terminals. Such text is cleaned where it enters.
package text

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLine bounds a cleaned line, in bytes. A line of a journal or a login screen
// stays readable, and what firstboot stores stays small.
const MaxLine = 300

// Line returns s as one line of at most MaxLine bytes: white space becomes single
// spaces, and everything that is not printable (control characters, escape
// sequences, marks that change the text's direction, invalid UTF-8) becomes "?".
func Line(s string) string { return LineOf(s, MaxLine) }

// LineOf is like Line, for at most limit bytes.
func LineOf(s string, limit int) string {
	var b strings.Builder
	blank := false
	for _, r := range s {
		if unicode.IsSpace(r) {
			blank = b.Len() > 0
			continue
		}
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			r = '?'
		}
		need := utf8.RuneLen(r)
		if blank {
			need++
		}
		if b.Len()+need > limit {
			b.WriteString("…")
			break
		}
		if blank {
			b.WriteByte(' ')
			blank = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Tail is like LineOf, but keeps the end of s: the last lines that a command
// printed usually say why it failed.
func Tail(s string, limit int) string {
	// A byte of cleaned text may come from four bytes of s, or from any number
	// of spaces. More is not examined.
	const examined = 16
	cut := len(s) - examined*limit
	if cut > 0 {
		s = s[cut:]
	}
	line := LineOf(s, len(s))
	if cut <= 0 && len(line) <= limit {
		return line
	}
	start := max(0, len(line)-limit)
	for start < len(line) && !utf8.RuneStart(line[start]) {
		start++
	}
	return "…" + strings.TrimLeft(line[start:], " ")
}
