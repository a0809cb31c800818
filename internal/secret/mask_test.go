package secret

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

func TestMaskRemovesSecrets(t *testing.T) {
	for _, c := range []struct {
		secrets    []string
		text, want string
	}{
		{[]string{"hunter22"}, "the server printed hunter22.", "the server printed ***."},
		{[]string{"hunter22", "hunter22-production"}, "printed hunter22-production", "printed ***"},
		{[]string{"hunter22-production", "hunter22"}, "printed hunter22-production", "printed ***"},
		{[]string{"abcdef", "defghi"}, "x abcdefghi y", "x *** y"},
		{[]string{"abab"}, "x ababab y", "x *** y"},
		{[]string{"hunter2"}, "hunter2hunter2", "***"},
		{[]string{"pw1"}, "http://user:pw1@host/: pw1, pw1.", "http://user:***@host/: ***, ***."},
		{[]string{"1"}, "TOKEN=1 at 10.0.0.1:2379 in 1.5s, step 11", "TOKEN=*** at 10.0.0.1:2379 in 1.5s, step 11"},
		{[]string{"x"}, "the text has an x", "the text has an ***"},
		{[]string{"  spaced  "}, "a spaced value", "a *** value"},
		{[]string{"long-secret-of-a-host"}, "the server printed long-sec…", "the server printed ***…"},
		{[]string{""}, "unchanged", "unchanged"},
		{nil, "unchanged", "unchanged"},
	} {
		if got := NewMask(c.secrets...).Text(c.text); got != c.want {
			t.Errorf("%q with the secrets %q becomes %q, want %q", c.text, c.secrets, got, c.want)
		}
	}
}

// TestMaskRemovesEncodedSecrets: a secret may be escaped where it is printed.
func TestMaskRemovesEncodedSecrets(t *testing.T) {
	const s = `it's "a b"&<c>\é`
	inJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{s, string(inJSON), strconv.Quote(s), url.QueryEscape(s), url.PathEscape(s), strings.ReplaceAll(s, "'", "''")} {
		if got := NewMask(s).Text("x=" + form); strings.Contains(got, "a") {
			t.Errorf("%s becomes %s", form, got)
		}
	}
}

// TestMaskWithoutSecretsOmitsText: text is omitted as long as the secrets are
// not known.
func TestMaskWithoutSecretsOmitsText(t *testing.T) {
	if got := (Mask{}).Text("hunter2"); got != Omitted {
		t.Errorf("got %q", got)
	}
	if got := (Mask{}).Text(""); got != "" {
		t.Errorf("got %q", got)
	}
}

// FuzzMask: no secret of more than shortSecret bytes remains.
func FuzzMask(f *testing.F) {
	f.Add("hunter22", "hunter22-production", "printed hunter22-production")
	f.Add("a", "", "a b")
	f.Add("long-secret", "…", "long-s…")
	f.Fuzz(func(t *testing.T, one, two, text string) {
		got := NewMask(one, two).Text(text)
		for _, s := range []string{one, two} {
			if len(s) > shortSecret && !strings.Contains(s, "*") && strings.Contains(strings.ReplaceAll(got, hidden, "\x00"), s) && !strings.Contains(s, "\x00") {
				t.Errorf("%q contains %q", got, s)
			}
		}
	})
}
