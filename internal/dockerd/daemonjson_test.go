package dockerd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/host"
)

func TestMergeKeepsOtherKeys(t *testing.T) {
	t.Parallel()
	set := map[string]any{"cluster-store": "etcd://x:1"}
	for _, c := range []struct{ have, want string }{
		{"", `{"cluster-store":"etcd://x:1"}`},
		{" \n", `{"cluster-store":"etcd://x:1"}`},
		{"{}", `{"cluster-store":"etcd://x:1"}`},
		{`{"debug":true,"mtu":1450}`, `{"cluster-store":"etcd://x:1","debug":true,"mtu":1450}`},
		{`{"a":12345678901234567890,"b":1.50,"c":1e3}`, `{"a":12345678901234567890,"b":1.50,"c":1e3,"cluster-store":"etcd://x:1"}`},
		{`{"cluster-store":"etcd://y:1"}`, `{"cluster-store":"etcd://x:1"}`},
		{`{"cluster-store":{"a":1}}`, `{"cluster-store":"etcd://x:1"}`},
		{`{"cluster-store":null}`, `{"cluster-store":"etcd://x:1"}`},
		{`{"debug":false,"debug":true}`, `{"cluster-store":"etcd://x:1","debug":true}`}, // the last one wins, as in Docker
		{`{"log-opts":{"tag":"a<b>&c"},"hosts":["fd://"]}`, `{"cluster-store":"etcd://x:1","hosts":["fd://"],"log-opts":{"tag":"a<b>&c"}}`},
	} {
		got, err := Merge([]byte(c.have), set)
		if err != nil {
			t.Errorf("%s: %v", c.have, err)
			continue
		}
		if d := cmp.Diff(compact(t, []byte(c.want)), compact(t, got)); d != "" {
			t.Errorf("%s: %s", c.have, d)
		}
	}
	handWritten := "{ \"debug\": true,\n\t\"cluster-store\":   \"etcd://x:1\" }"
	if got, err := Merge([]byte(handWritten), set); err != nil || string(got) != handWritten {
		t.Errorf("a hand-written file with the right keys became %s, %v", got, err)
	}
}

// compact returns each key of a JSON object with its value in compact form.
// Numbers keep their spelling.
func compact(t testing.TB, data []byte) map[string]string {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	keys := map[string]string{}
	for key, value := range raw {
		var any any
		if err := json.Unmarshal(value, &any); err != nil {
			t.Fatal(err)
		}
		keys[key] = strings.TrimSpace(string(value))
		if _, number := any.(float64); !number {
			text, _ := json.Marshal(any)
			keys[key] = string(text)
		}
	}
	return keys
}

// FuzzMerge checks that the result is JSON with the keys set and the
// others unchanged, and that a second merge changes nothing.
func FuzzMerge(f *testing.F) {
	for _, s := range []string{"", "{}", `{"a":[1,{"b":null}]}`, `{"cluster-store":"x"}`, "null", "[]", `{"a":1}{}`, `{"a":1e999}`} {
		f.Add([]byte(s))
	}
	set := map[string]any{"cluster-store": "etcd://x:1", "cluster-advertise": "a:1"}
	f.Fuzz(func(t *testing.T, have []byte) {
		merged, err := Merge(have, set)
		if err != nil {
			return
		}
		var keys map[string]any
		if err := json.Unmarshal(merged, &keys); err != nil && !strings.Contains(err.Error(), "cannot unmarshal number") {
			t.Fatalf("%q became %q: %v", have, merged, err)
		}
		again, err := Merge(merged, set)
		if err != nil || string(again) != string(merged) {
			t.Fatalf("%q became %q, then %q, %v", have, merged, again, err)
		}
		var before map[string]json.RawMessage
		_ = json.Unmarshal(have, &before)
		var after map[string]json.RawMessage
		_ = json.Unmarshal(merged, &after)
		for key := range before {
			if after[key] == nil {
				t.Fatalf("%q became %q: %q is lost", have, merged, key)
			}
		}
		for key, want := range set {
			if string(after[key]) != fmt.Sprintf("%q", want) {
				t.Fatalf("%q became %q: %s is not set", have, merged, key)
			}
		}
	})
}

// withConfig returns a host with a daemon.json.
func withConfig(t *testing.T, daemon string) *host.Host {
	t.Helper()
	h := host.New(t.TempDir(), host.Offline())
	if err := h.WriteFile(ConfigPath, []byte(daemon), 0o640); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestFileOfAnImageLacksTheAddress(t *testing.T) {
	const store = "etcd://10.0.0.1:2379"
	for daemon, want := range map[string]bool{
		`{"cluster-store": "` + store + `", "debug": true}`: true,
		`{"cluster-store": "etcd://10.0.0.9:2379"}`:         false,
		`{}`: false,
		`{`:  false,
		`{"cluster-store": "` + store + `", "cluster-advertise": "10.0.0.7:2376"}`: false,
	} {
		h := withConfig(t, daemon)
		if got, err := StoreLacksAddress(h, store); err != nil || got != want {
			t.Errorf("%s: got %v, %v", daemon, got, err)
		}
	}
	h := withConfig(t, "{}")
	file, err := StoreFile(h, store, netip.Addr{})
	if err != nil || strings.Contains(string(file.Data), "cluster-advertise") || file.Mode != 0o640 {
		t.Errorf("without an address got %s, mode %o, %v", file.Data, file.Mode, err)
	}
	file, err = StoreFile(h, store, netip.MustParseAddr("10.0.0.7"))
	if err != nil || !strings.Contains(string(file.Data), `"cluster-advertise": "10.0.0.7:2376"`) {
		t.Errorf("with an address got %s, %v", file.Data, err)
	}
}

func TestSettings(t *testing.T) {
	for _, test := range []struct{ daemon, root, bridge, source, option string }{
		{``, "/var/lib/docker", "172.17.0.0/16", "its default", ""},
		{`{"debug": `, "/var/lib/docker", "172.17.0.0/16", "its default", ""},
		{`{"data-root": "/srv/a", "graph": "/srv/b", "bip": "10.9.0.1/24"}`, "/srv/a", "10.9.0.1/24", "bip in " + ConfigPath, ""},
		{`{"graph": "/srv/b", "bridge": "br0", "bip": "10.9.0.1/24"}`, "/srv/b", "invalid Prefix", "", ""},
		{`{"default-address-pools": [{"base": "10.8.0.0/16", "size": 24}, {"base": "x"}]}`, "/var/lib/docker", "invalid Prefix", "", ""},
		{`{"cluster-store-opts": {"kv.path": "p", "discovery.ttl": "1s"}}`, "/var/lib/docker", "172.17.0.0/16", "its default", "kv.path"},
		{`{"cluster-store-opts": {"discovery.ttl": "1s"}}`, "/var/lib/docker", "172.17.0.0/16", "its default", ""},
	} {
		s := ReadSettings(withConfig(t, test.daemon))
		bridge, source := s.DefaultBridge()
		if s.DataRoot() != test.root || bridge.String() != test.bridge || source != test.source || s.OtherStoreOption() != test.option {
			t.Errorf("%s: got %s, %s (%s), %q", test.daemon, s.DataRoot(), bridge, source, s.OtherStoreOption())
		}
	}
	pools := ReadSettings(withConfig(t, `{"default-address-pools": [{"base": "10.8.0.0/16"}, {"base": "x"}]}`)).AddressPools()
	if len(pools) != 1 || pools[0].String() != "10.8.0.0/16" {
		t.Errorf("address pools: %v", pools)
	}
}

func TestFlags(t *testing.T) {
	h := host.New(t.TempDir())
	h = host.New(h.Root(), host.Offline())
	if err := h.WriteFile("/etc/default/docker", []byte("# DOCKER_OPTS=\"--cluster-store=etcd://x\"\nDOCKER_OPTS=\"--userns-remap=default --config-file=/etc/d.json\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := ReadFlags(t.Context(), h)
	if f.Store() != "" || !f.Has("--userns-remap") || f.ConfigFile() != "/etc/d.json" {
		t.Errorf("%q: store %q, configuration file %q", f, f.Store(), f.ConfigFile())
	}
	if got := Flags("dockerd --cluster-advertise eth0:1").Store(); got != "--cluster-advertise" {
		t.Errorf("got %q", got)
	}
}
