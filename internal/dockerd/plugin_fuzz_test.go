package dockerd

import (
	"strings"
	"testing"
	"unicode"
)

// wantPrintable fails the test unless s is one printable line of limited length.
func wantPrintable(t *testing.T, s string) {
	t.Helper()
	if len(s) > 2*maxPluginMessage || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q is not fit for a message", s)
	}
}

func FuzzPluginResponse(f *testing.F) {
	for _, s := range []string{"", "{}", `{"Implements":["NetworkDriver"]}`, `{"Implements":["\u001b[31m"]}`, `{"Err":"resource does not exist: WorkloadEndpoint(x)"}`, `{"Err":7}`, `{"Scope":"local\u001b[31m"}`, "null", "[", "\x00"} {
		f.Add(200, []byte(s))
	}
	f.Fuzz(func(t *testing.T, status int, data []byte) {
		if err := pluginError(status, data); err != nil {
			wantPrintable(t, err.Error())
		}
		scope, err := decodeScope(data)
		if err != nil {
			wantPrintable(t, err.Error())
		}
		wantPrintable(t, scope)
		implements, err := decodeActivation(data)
		if err != nil {
			wantPrintable(t, err.Error())
		}
		for _, name := range implements {
			wantPrintable(t, name)
		}
	})
}

func FuzzPluginActivation(f *testing.F) {
	for _, seed := range []string{`{"Implements":["NetworkDriver"]}`, `{"Implements":null}`, `{"Implements":["\u001b[31m"]}`, "", "[]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		drivers, err := decodeActivation(data)
		text := strings.Join(drivers, "")
		if err != nil {
			text = err.Error()
		}
		if strings.ContainsFunc(text, unicode.IsControl) || len(drivers) > 100 {
			t.Errorf("%q", text)
		}
	})
}
