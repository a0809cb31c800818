package report

import (
	"strings"
	"unicode/utf8"
)

// defaultWidth is the width of lines, in columns, if the output is not a
// terminal. smallestText is the least number of columns beside an indentation.
const (
	defaultWidth = 100
	smallestText = 20
)

// wrap writes text as lines of at most width columns, divided at spaces. A
// longer word has a line of its own, so that paths, URLs and commands can be
// copied. The first line begins with indent, the others are indented further.
func wrap(b *strings.Builder, indent, text string, width int) {
	width = max(width, len(indent)+smallestText)
	further := indent + "  "
	column := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			b.WriteString(indent + word)
			column = len(indent) + n
		case column+1+n > width:
			b.WriteString("\n" + further + word)
			column = len(further) + n
		default:
			b.WriteString(" " + word)
			column += 1 + n
		}
	}
	b.WriteByte('\n')
}

// width returns the columns of the output.
func (t Terminal) width() int {
	if t.Width == nil {
		return defaultWidth
	}
	return t.Width()
}
