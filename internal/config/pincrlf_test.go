package config

import (
	"strings"
	"testing"
)

// A file with CR LF line endings keeps them, and comments do not move the key.
func TestPinKeepsLineEndings(t *testing.T) {
	const digest = "022036a28655c76d3ac5e1584872c898d161687b7578de171ac3447b7447bf68"
	for name, text := range map[string]string{
		"LF":                  "# a\n# b\netcd:\n  endpoints: [http://10.0.0.1:2379]\ncalicoctl:\n  version: v3.23.0   # c\n  url: /srv/calicoctl   # mirror\nnode:\n  asNumber: 64512\n",
		"no newline at end":   "# a\ncalicoctl:\n  url: /srv/calicoctl",
		"the key is the last": "# a\ncalicoctl:\n  url: /srv/calicoctl\n",
	} {
		want, err := Pin(Source{Name: "c.yaml", Data: []byte(text)}, map[string]string{"calicoctl": digest})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !strings.Contains(string(want), "\n  sha256: \""+digest+"\"\n") {
			t.Errorf("%s: no digest in %q", name, want)
		}
		crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
		got, err := Pin(Source{Name: "c.yaml", Data: []byte(crlf(text))}, map[string]string{"calicoctl": digest})
		if err != nil || string(got) != crlf(string(want)) {
			t.Errorf("%s with CR LF: %v\n%q, want\n%q", name, err, got, crlf(string(want)))
		}
	}
}
