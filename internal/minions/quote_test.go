package minions

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestQuoteEnvironment checks the quoted form. FuzzQuoteEnvironment checks that
// systemd reads it correctly.
func TestQuoteEnvironment(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "http://h:1/p?a=b&c": "http://h:1/p?a=b&c", "": `""`, "a b": `"a b"`, `q"q`: `"q\"q"`, "$HOME": `"\$HOME"`,
		`back\slash`: `"back\\slash"`, "`x`": "\"\\`x\\`\"", "#no comment": `"#no comment"`, "two\nlines": "\"two\nlines\"", "cr\r": "\"cr\r\"",
	} {
		if got := quoteEnvironment(in); got != want {
			t.Errorf("%q becomes %s, want %s", in, got, want)
		}
	}
}

// FuzzQuoteEnvironment checks that systemd reads every value unchanged, and that
// no value adds a variable.
func FuzzQuoteEnvironment(f *testing.F) {
	for _, s := range []string{"", " ", "a", "a\nB=c", "a\rB=c", "'", `"`, `\`, "\\\n", "$x", "`", " a", "a ", "\t", "#", ";", "=", "a'b", "\x01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return // YAML cannot contain it
		}
		got := environmentFile("A=1\nKEY=" + quoteEnvironment(value) + "\nZ=2\n")
		if len(got) != 3 || got["KEY"] != value || got["A"] != "1" || got["Z"] != "2" {
			t.Fatalf("%q becomes %s, which is read as %q", value, quoteEnvironment(value), got)
		}
	})
}

// environmentFile parses an environment file as systemd 252 does. It has the
// same states as parse_env_file_internal in src/basic/env-file.c.
func environmentFile(text string) map[string]string {
	vars := map[string]string{}
	var key, value strings.Builder
	push := func(v string) {
		vars[strings.TrimRight(key.String(), " \t\n\r")] = v
		key.Reset()
		value.Reset()
	}
	const newline, blank = "\n\r", " \t\n\r"
	state := "pre-key"
	for _, c := range text + "\n" {
		is := func(set string) bool { return strings.ContainsRune(set, c) }
		switch state {
		case "pre-key":
			if is("#;") {
				state = "comment"
			} else if !is(blank) {
				state = "key"
				key.WriteRune(c)
			}
		case "key":
			if is(newline) {
				state = "pre-key"
				key.Reset()
			} else if c == '=' {
				state = "pre-value"
			} else {
				key.WriteRune(c)
			}
		case "pre-value":
			switch {
			case is(newline):
				state = "pre-key"
				push(value.String())
			case c == '\'':
				state = "single"
			case c == '"':
				state = "double"
			case c == '\\':
				state = "escape"
			case !is(blank):
				state = "value"
				value.WriteRune(c)
			}
		case "value":
			switch {
			case is(newline):
				state = "pre-key"
				push(strings.TrimRight(value.String(), blank))
			case c == '\\':
				state = "escape"
			default:
				value.WriteRune(c)
			}
		case "escape":
			state = "value"
			if !is(newline) {
				value.WriteRune(c)
			}
		case "single":
			if c == '\'' {
				state = "pre-value"
			} else {
				value.WriteRune(c)
			}
		case "double":
			switch c {
			case '"':
				state = "pre-value"
			case '\\':
				state = "double-escape"
			default:
				value.WriteRune(c)
			}
		case "double-escape":
			state = "double"
			if is("\"\\`$") {
				value.WriteRune(c)
			} else if c != '\n' {
				value.WriteString("\\" + string(c))
			}
		case "comment":
			if is(newline) {
				state = "pre-key"
			}
		}
	}
	return vars
}
