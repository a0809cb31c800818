package pxe

import (
	"strings"
	"testing"
)

// FuzzParseHosts: whatever a list holds, what comes out of it are words that
// an iPXE script and a kernel command line take for what they are.
func FuzzParseHosts(f *testing.F) {
	f.Add(list)
	f.Add("hosts: [{mac: 52:54:00:12:34:56, args: ['a=\"b c\"']}]")
	f.Add(strings.Repeat("[", 1000))
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := ParseHosts([]byte(text))
		if err != nil {
			return
		}
		for _, h := range hosts {
			if strings.ContainsAny(h.script()+h.label(), "\n\r") && h.Name == "" {
				t.Errorf("%q", h)
			}
			for _, arg := range append(h.args(), h.Args...) {
				if err := checkArg(arg); err != nil {
					t.Error(err)
				}
				if strings.ContainsAny(arg, "\n\r\t'\\") {
					t.Errorf("%q", arg)
				}
			}
		}
	})
}
