package config

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// saved is what Save writes.
func saved(t testing.TB, l *Loaded) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := l.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestEffectiveRoundTrip: a saved configuration loads as the same one, with
// the origins of the first load, wherever it came from.
func TestEffectiveRoundTrip(t *testing.T) {
	for _, text := range []string{minimal, withSecrets, Example(), minimal + "sysctl: {net.ipv4.conf.eth0/5.rp_filter: 0}\npreflight: {ignore: [clock, disk-space]}\ntimeouts: {total: 1h30m}\n"} {
		l, err := loadText(t, text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := LoadEffective(saved(t, l))
		if err != nil {
			t.Fatalf("%v\n%s", err, saved(t, l))
		}
		if diff := cmp.Diff(l.Config, again.Config, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("configuration (-first +again):\n%s", diff)
		}
		if diff := cmp.Diff(l.Origins, again.Origins); diff != "" {
			t.Errorf("origins (-first +again):\n%s", diff)
		}
		if l.Digest != again.Digest {
			t.Errorf("digest %s, then %s", l.Digest, again.Digest)
		}
		if !bytes.Equal(saved(t, l), saved(t, again)) {
			t.Error("saving again writes something else")
		}
	}
}

// TestEffectiveKeepsAnyText: no value is changed by being written as YAML and
// read back, whatever punctuation it holds.
func TestEffectiveKeepsAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Default()
		c.Host.Name = anyText().Draw(t, "name")
		c.Node.URL = URL(anyText().Draw(t, "url"))
		c.Etcd.Endpoints = rapid.SliceOfN(anyText(), 1, 3).Draw(t, "endpoints")
		key := rapid.StringMatching(`[A-Za-z0-9_./ :#{}\[\]"'\\é-]{1,8}`).Draw(t, "key")
		c.Node.Environment = map[string]Secret{key: Secret(anyText().Draw(t, "secret"))}
		c.Sysctl[key] = anyText().Draw(t, "sysctl")
		var b bytes.Buffer
		writeSettings(&b, "", flatten(c), reveal, func(string) string { return "comment: \"x\"" })
		d := decode(Source{Name: "x", Data: b.Bytes()})
		if len(d.problems) > 0 {
			t.Fatalf("%v\n%s", d.problems, b.String())
		}
		if diff := cmp.Diff(c, merge(d.layer).config(), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Fatalf("(-written +read):\n%s\n%s", diff, b.String())
		}
	})
}

// TestEffectiveRefused: what Save did not write is no effective
// configuration.
func TestEffectiveRefused(t *testing.T) {
	l, err := loadText(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	good := string(saved(t, l))
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "effective.yaml:1:1: is empty"},
		{"a main file", minimal, "effective: is not a format that this firstboot knows"},
		{"newer", strings.Replace(good, "effective: 1", "effective: 2\nnews: 1", 1), "effective: is not a format that this firstboot knows"},
		{"cut", good[:len(good)/3], "effective.yaml:"},
		{"a key of the future", strings.Replace(good, "  pool:\n", "  pool:\n    colour: 1\n", 1), `unknown key "pool.colour"`},
		{"a value that is refused now", strings.Replace(good, "10.213.0.0/16", "169.254.0.0/16", 1), "link-local"},
	} {
		if _, err := LoadEffective([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

// TestDigest: equal configurations have equal digests, others have others,
// and a value that is written out at its default changes nothing.
func TestDigest(t *testing.T) {
	digest := func(text string) string {
		l, err := loadText(t, text)
		if err != nil {
			t.Fatal(err)
		}
		return l.Digest
	}
	base := digest(minimal)
	// Hosts keep this in their markers: another value makes them look drifted.
	if base != "sha256:bf8f87cdd1b5406e78389d35e706fa7191217ed34e5f093b06d9649233616360" {
		t.Errorf("digest %q", base)
	}
	for _, same := range []string{"# comment\n" + minimal, minimal + "  blockSize: 26\n", minimal + "preflight: {ignore: []}\n", minimal + "sysctl: {net.ipv4.ip_forward: 1}\n", minimal + "timeouts: {download: 600s}\n"} {
		if digest(same) != base {
			t.Errorf("%q has another digest", same)
		}
	}
	seen := map[string]string{base: "minimal"}
	for _, other := range []string{"  name: xy\n", "  natOutgoing: false\n", "node: {environment: {A: \"\"}}\n", "node: {environment: {A: a}}\n", "node: {environment: {A: b}}\n", "minions: {environment: {A: a}}\n", "sysctl: {vm.a: 1}\n", "preflight: {ignore: [clock]}\n"} {
		d := digest(minimal + other)
		if was, twice := seen[d]; twice {
			t.Errorf("%q and %q have the same digest", other, was)
		}
		seen[d] = other
	}
}

// TestShown: what `firstboot config` prints is YAML and JSON, and as YAML a
// configuration again.
func TestShown(t *testing.T) {
	l, err := loadText(t, minimal+"node: {environment: {TOKEN: hunter2}}\n")
	if err != nil {
		t.Fatal(err)
	}
	shown := string(l.YAML())
	for _, want := range []string{
		"# " + l.Digest + "\n", "etcd:\n  endpoints: [\"http://10.0.0.1:2379\"] # /etc/firstboot/config.yaml:2:14\n",
		"  environment:\n    \"TOKEN\": \"***\" # /etc/firstboot/config.yaml:5:29\n", "  \"net.ipv4.ip_forward\": \"1\" # default\n", "  blockSize: 26 # default\n",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in\n%s", want, shown)
		}
	}
	if _, err := loadText(t, shown); err != nil {
		t.Errorf("what is shown is no configuration: %v", err)
	}
	var values struct {
		Digest string
		Values []struct {
			Key, Origin string
			Value       any
		}
	}
	data, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &values); err != nil || values.Digest != l.Digest || len(values.Values) != len(l.Redacted()) {
		t.Errorf("%v\n%s", err, data)
	}
}

// TestExample: what we show people to start from is valid, and what is
// commented out in it is as well, once it is not.
func TestExample(t *testing.T) {
	if _, err := loadText(t, Example()); err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^( *)# ( *[A-Za-z0-9_.]+:( .*)?)$`)
	text := strings.ReplaceAll(commented.ReplaceAllString(Example(), "$1$2"), "64 hexadecimal digits", sampleDigest)
	l, err := loadText(t, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	named := 0
	for path, origin := range l.Origins {
		if origin != "default" {
			named++
		} else if !strings.HasPrefix(path, "etcd.") {
			t.Errorf("the example does not show %s", path)
		}
	}
	if named < 30 {
		t.Errorf("the example shows only %d values", named)
	}
}
