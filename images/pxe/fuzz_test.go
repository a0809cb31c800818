package pxe

import (
	"strings"
	"testing"
)

// FuzzParseHosts checks that every accepted list produces only words that are valid
// in an iPXE script and on a kernel command line.
func FuzzParseHosts(f *testing.F) {
	f.Add(hostList)
	f.Add("hosts: [{mac: 52:54:00:12:34:56, args: ['a=\"b c\"']}]")
	f.Add(strings.Repeat("[", 1000))
	f.Add("hosts:\r\n# x\r\n- uuid: 3f0c7a1e-0000-4000-8000-1234567890ab\r\n  values: {a: |\r\n   b}")
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := ParseHosts("hosts.yaml", []byte(text))
		if err != nil {
			return
		}
		for _, h := range hosts {
			if strings.ContainsAny(h.script()+h.label(), "\n\r") && h.Name == "" {
				t.Errorf("%+v", h)
			}
			for _, arg := range append(h.args(), h.Args...) {
				if err := checkWord(arg); err != nil {
					t.Error(err)
				}
				if strings.ContainsAny(arg, "\n\r\t'\\") {
					t.Errorf("%q", arg)
				}
			}
		}
	})
}
