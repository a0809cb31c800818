package images

import (
	"fmt"
	"strings"
	"testing"
	"time"
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

// TestCheckYAMLLimitsAliases: neither many aliases nor a few nested ones make a
// command take minutes.
func TestCheckYAMLLimitsAliases(t *testing.T) {
	nested := "a0: &a0 [x, x]\n"
	for i := 1; i < 30; i++ {
		nested += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	wide := "a: &a [" + strings.Repeat("x, ", 5000) + "x]\nb: [" + strings.Repeat("*a, ", 100) + "*a]\n"
	for name, test := range map[string]struct {
		text string
		ok   bool
	}{
		"a few":                    {"version: 2\nx: &x {mtu: 1500}\nethernets: {eth0: *x, eth1: *x}\nname: \"a*b\"\n", true},
		"a merge key":              {"x: &x {mtu: 1500}\neth0: {<<: *x, dhcp4: true}\n", true},
		"nested":                   {nested, false},
		"a large anchor":           {wide, false},
		"many":                     {"a: &a x\nb: [" + strings.Repeat("*a, ", 500_000) + "*a]\n", false},
		"an alias of its own node": {"a: &a [*a]\n", false},
		"not YAML":                 {"a: *\nb: [\n", false},
	} {
		start := time.Now()
		if err := CheckYAML([]byte(test.text)); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
	}
}

// FuzzCheckYAML: it never panics.
func FuzzCheckYAML(f *testing.F) {
	for _, s := range []string{"", "a: &a [*a]", "a: &a\nb: *a", "<<: *a", "? *a\n: b", "&a *a", "- &a {b: *a}\n- !t *a", "*a: b", "--- *a\n--- &a b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, data []byte) { _ = CheckYAML(data) })
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
