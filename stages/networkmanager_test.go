package stages

import (
	"strings"
	"testing"
)

func TestManagerSetting(t *testing.T) {
	for data, want := range map[string]map[string]string{
		"":                                    {},
		"[keyfile]\nunmanaged-devices=a;b\n":  {"": "a;b"},
		"[keyfile]\nunmanaged-devices = a\n":  {"": "a"},
		"[keyfile]\nunmanaged-devices+=a\r\n": {"+": "a"},
		"[keyfile]\nunmanaged-devices-=a":     {"-": "a"},
		"[keyfile]\n#unmanaged-devices=a":     {},
		"[main]\nunmanaged-devices=a":         {},
		"unmanaged-devices=a":                 {},
		"[keyfile]\nunmanaged-devices-x=a":    {},
		"[keyfile]\n[main]\n[keyfile]\nunmanaged-devices=a\nunmanaged-devices+=b": {"": "a", "+": "b"},
	} {
		got := managerSetting(data)
		if len(got) != len(want) {
			t.Errorf("%q: got %q, want %q", data, got, want)
		}
		for operator, value := range want {
			if got[operator] != value {
				t.Errorf("%q: got %q, want %q", data, got, want)
			}
		}
	}
}

// FuzzManagerSetting checks that a list is found in front of any other content.
func FuzzManagerSetting(f *testing.F) {
	for _, s := range []string{"", "[main]\nplugins=keyfile\n", "[keyfile]\nunmanaged-devices-=x", "]=[", "[keyfile", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data string) {
		managerSetting(data)
		values := managerSetting(data + "\n[keyfile]\nunmanaged-devices=interface-name:cali*;interface-name:tunl*\n")
		if lack := lacksDevice(values[""]); lack != "" {
			t.Errorf("%q: %s is missing in %q", data, lack, values)
		}
		if strings.Contains(values["+"], "\n") {
			t.Errorf("%q: a value of several lines: %q", data, values)
		}
	})
}
