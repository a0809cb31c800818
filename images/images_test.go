package images

import (
	"strings"
	"testing"
)

func TestCheckYAMLRejectsDeepNesting(t *testing.T) {
	for text, ok := range map[string]bool{
		"":                               true,
		"hosts: [{mac: a, args: [b]}]\n": true,
		"---\n- a\n- - b\n":              true,
		strings.Repeat("a: []\n", 1000):  true,
		strings.Repeat("[", 33):          false,
		strings.Repeat("{a: ", 33):       false,
		strings.Repeat("- ", 17) + "a":   false,
		strings.Repeat("[\n", 33):        false,
	} {
		if err := CheckYAML([]byte(text)); (err == nil) != ok {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestIndentLeavesEmptyLinesEmpty(t *testing.T) {
	if got, want := Indent("a\n\n b\n", 2), "  a\n\n   b\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestShellQuote(t *testing.T) {
	if got, want := ShellQuote(`a'b$(c)`), `'a'\''b$(c)'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
