package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/projecteru2/firstboot/internal/secret"
)

// saved returns what Save writes.
func saved(t testing.TB, l *Loaded) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := l.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestEffectiveRoundTrip: LoadEffective returns the configuration that Save
// wrote, with the origins of the first load.
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
			t.Error("saving again writes other bytes")
		}
	}
}

// TestEffectiveKeepsAnyText: values with any punctuation survive being written
// as YAML and read back.
func TestEffectiveKeepsAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Default()
		c.Host.Name = anyText().Draw(t, "name")
		c.Node.URL = secret.URL(anyText().Draw(t, "url"))
		c.Etcd.Endpoints = rapid.SliceOfN(anyText(), 1, 3).Draw(t, "endpoints")
		variable := rapid.StringMatching(`[A-Z_][A-Z0-9_]{0,7}`).Draw(t, "variable")
		c.Node.Environment = map[string]secret.Value{variable: secret.Value(anyText().Draw(t, "secret"))}
		setting := rapid.StringMatching(`[a-z0-9_@][a-z0-9_@-]{0,3}\.[a-z0-9_@][a-z0-9_@-]{0,3}(/[0-9]{1,3})?`).Draw(t, "setting")
		c.Sysctl[setting] = anyText().Draw(t, "sysctl")
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

// TestEffectiveRefused: a file that Save did not write is rejected.
func TestEffectiveRefused(t *testing.T) {
	l, err := loadText(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	good := string(saved(t, l))
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "effective.yaml:1:1: is empty"},
		{"a main file", minimal, "effective.yaml:1:1: has no format version"},
		{"newer", strings.Replace(good, "effective: 2", "effective: 3\nnews: 1", 1), "effective: unknown format version"},
		{"truncated", good[:strings.Index(good, "cidr:")+2], "effective.yaml:"},
		{"a key of a newer version", strings.Replace(good, "  pool:\n", "  pool:\n    colour: 1\n", 1), `unknown key "pool.colour"`},
		{"a value of another type", strings.Replace(good, "10.213.0.0/16", "nowhere", 1), "effective.yaml:"},
	} {
		if _, err := LoadEffective([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

// A rule of a newer firstboot must not take away the only copy of a configuration.
func TestSavedValueThatANewRuleRefusesIsAWarning(t *testing.T) {
	l, err := loadText(t, minimal)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(saved(t, l)), "10.213.0.0/16", "169.254.0.0/16", 1)
	again, err := LoadEffective([]byte(text))
	if err != nil || !strings.Contains(fmt.Sprint(again.Warnings), "link-local") {
		t.Errorf("%v, %v", again, err)
	}
}

// TestDigest: the digest covers what the sources set, and nothing else.
func TestDigest(t *testing.T) {
	digest := func(text string) string {
		l, err := loadText(t, text)
		if err != nil {
			t.Fatal(err)
		}
		return l.Digest
	}
	base := digest(minimal)
	// Hosts keep this in their markers: if it changes, they are reported as drifted.
	if base != "sha256:bf8f87cdd1b5406e78389d35e706fa7191217ed34e5f093b06d9649233616360" {
		t.Errorf("digest %q", base)
	}
	for _, same := range []string{"# comment\n" + minimal, strings.ReplaceAll(minimal, "\n", "\r\n"), "etcd: {endpoints: ['http://10.0.0.1:2379']}\npool: {cidr: 10.213.0.0/16}\n"} {
		if digest(same) != base {
			t.Errorf("%q has a different digest", same)
		}
	}
	seen := map[string]string{base: "minimal"}
	for _, other := range []string{"  name: xy\n", "  blockSize: 26\n", "preflight: {ignore: []}\n", "sysctl: {net.ipv4.ip_forward: 1}\n", "timeouts: {download: 600s}\n", "  natOutgoing: false\n", "node: {environment: {A: \"\"}}\n", "node: {environment: {A: a}}\n", "node: {environment: {A: b}}\n", "minions: {environment: {A: a}}\n", "sysctl: {vm.a: 1}\n", "preflight: {ignore: [clock]}\n"} {
		d := digest(minimal + other)
		if was, ok := seen[d]; ok {
			t.Errorf("%q and %q have the same digest", other, was)
		}
		seen[d] = other
	}
}

// TestShownConfigurationIsValid: `firstboot config` prints JSON, or YAML that can
// be loaded again.
func TestShownConfigurationIsValid(t *testing.T) {
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
		t.Errorf("the YAML is not a valid configuration: %v", err)
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

// TestExample: the example is valid, also after its commented keys are
// uncommented.
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
