package text

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		" plain text ":                  "plain text",
		"two\r\nlines\tand  blanks":     "two lines and blanks",
		"\x1b[31mred\x1b[0m":            "?[31mred?[0m",
		"a\x00b\u202ec\ufffd\xff":       "a?b?c??",
		strings.Repeat("é", 200):        strings.Repeat("é", 150) + "…",
		strings.Repeat("x", 300) + "  ": strings.Repeat("x", 300),
		strings.Repeat("x", 299) + " y": strings.Repeat("x", 299) + "…",
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%.40q) = %q, want %q", in, got, want)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	for in, want := range map[string]string{
		"a\nline":                    "a line",
		"0123456789abc":              "…3456789abc",
		"é" + strings.Repeat("é", 5): "…" + strings.Repeat("é", 5),
		strings.Repeat("x\n", 5<<20): "…x x x x x",
	} {
		if got := Tail(in, 10); got != want {
			t.Errorf("Tail(%.40q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, seed := range []string{"", "plain", "\x1b]0;title\a", "a\u202eb", "\xff\xfe", strings.Repeat("é\n", 400)} {
		f.Add(seed, 50)
	}
	f.Fuzz(func(t *testing.T, in string, limit int) {
		limit = min(max(limit, 1), 1000)
		for _, out := range []string{LineOf(in, limit), Tail(in, limit)} {
			bad := func(r rune) bool { return unicode.IsControl(r) || !unicode.IsPrint(r) }
			if len(out) > limit+len("…") || !utf8.ValidString(out) || strings.ContainsFunc(out, bad) {
				t.Errorf("%q, limit %d: %q", in, limit, out)
			}
		}
	})
}
