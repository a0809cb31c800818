// Package unified writes unified diffs of files that patch and git apply accept.
package unified

import (
	"fmt"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// context is the number of unchanged lines around a change, as diff -u prints
// them.
const context = 3

// maxSize limits the compared files, in bytes: the comparison takes quadratic
// time.
const maxSize = 256_000

// Diff returns the unified diff that turns the content before of a file into
// after. before is nil if the file does not exist. path is absolute; the diff
// names it relative to the root directory, in which patch -p0 and git apply -p0
// apply it. Diff returns "" if nothing differs or a file is too large.
func Diff(path string, before, after []byte) string {
	if len(before) > maxSize || len(after) > maxSize {
		return ""
	}
	a, b := lines(string(before)), lines(string(after))
	groups := difflib.NewMatcher(a, b).GetGroupedOpCodes(context)
	if len(groups) == 0 {
		return ""
	}
	name := strings.TrimLeft(path, "/")
	from := name
	if before == nil {
		from = "/dev/null"
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", from, name)
	for _, codes := range groups {
		first, last := codes[0], codes[len(codes)-1]
		fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(first.I1, last.I2), span(first.J1, last.J2))
		for _, c := range codes {
			if c.Tag == 'e' {
				write(&out, " ", a[c.I1:c.I2])
				continue
			}
			write(&out, "-", a[c.I1:c.I2])
			write(&out, "+", b[c.J1:c.J2])
		}
	}
	return out.String()
}

// lines divides text into lines. Each has its newline, except the last line of a
// text that does not end with one.
func lines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		all = append(all, line)
	}
	return all
}

// span formats lines start to end, counted from 0 and end excluded. An empty
// span names the line before it.
func span(start, end int) string {
	switch end - start {
	case 0:
		return fmt.Sprintf("%d,0", start)
	case 1:
		return fmt.Sprint(start + 1)
	}
	return fmt.Sprintf("%d,%d", start+1, end-start)
}

func write(out *strings.Builder, sign string, all []string) {
	for _, line := range all {
		out.WriteString(sign + line)
		if !strings.HasSuffix(line, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}
