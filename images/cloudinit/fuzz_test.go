package cloudinit

import (
	"strings"
	"testing"
)

// FuzzNetworkConfig checks that no network configuration makes a seed panic, and that an
// accepted one is passed on unchanged.
func FuzzNetworkConfig(f *testing.F) {
	f.Add("version: 2\nethernets: {ens3: {dhcp4: true}}\n")
	f.Add("network: {version: 1, config: [{type: physical, name: eth0}]}")
	f.Add(strings.Repeat("[", 1000))
	f.Add("a: &a [x, x]\nb: &b [*a, *a]\nversion: [*b, *b]")
	f.Fuzz(func(t *testing.T, text string) {
		files, err := Seed{NetworkConfig: []byte(text)}.Files()
		if err != nil {
			return
		}
		if last := files[len(files)-1]; last.Name != "network-config" || string(last.Data) != text {
			t.Errorf("%q became %q", text, last.Data)
		}
	})
}
