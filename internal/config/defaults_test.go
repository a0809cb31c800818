package config

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDefaultsVersion: raise defaultsVersion if the default of an existing key
// changed; then, or if there is only a new key, update the digest here.
func TestDefaultsVersion(t *testing.T) {
	var b strings.Builder
	for _, s := range flatten(Default()) {
		fmt.Fprintf(&b, "%s: %s\n", s.path, encode(s.value, reveal))
	}
	got := fmt.Sprintf("%d %x", defaultsVersion, sha256.Sum256([]byte(b.String())))
	if want := "2 cff7e60de497234cb13b414aa1b80b8f77654abdafc1ceb34889f3e556860c8b"; got != want {
		t.Errorf("the defaults are %s, want %s\n%s", got, want, b.String())
	}
}

// TestUpgradeWithOtherDefaults: a configuration that a firstboot with other
// defaults saved keeps its values and its digest. No key counts as edited; the
// changed defaults are named.
func TestUpgradeWithOtherDefaults(t *testing.T) {
	root := rootWith(t, map[string]string{MainFile: minimal + "sysctl: {vm.swappiness: 1}\n"})
	now := mustLoad(t, Options{Root: root})
	text := string(saved(t, now))
	for _, edit := range [][2]string{
		{"defaults: 2", "defaults: 0"},
		{"    blockSize: 26\n", "    blockSize: 25\n"},
		{"    topology: \"mesh\"\n", ""},
		{"    \"net.netfilter.nf_conntrack_max\": \"1000000\"\n", ""},
		{"    \"net.ipv4.ip_forward\": \"1\"\n", "    \"net.ipv4.ip_forward\": \"1\"\n    \"vm.old\": \"1\"\n"},
		{"origins:\n", "origins:\n  \"sysctl.vm.old\": \"default\"\n"},
	} {
		if !strings.Contains(text, edit[0]) {
			t.Fatalf("%q is not in\n%s", edit[0], text)
		}
		text = strings.Replace(text, edit[0], edit[1], 1)
	}
	old, err := LoadEffective([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if old.Digest != now.Digest || old.Defaults != 0 || now.Defaults != defaultsVersion {
		t.Errorf("digest %s, defaults %d; want %s and 0", old.Digest, old.Defaults, now.Digest)
	}
	want := map[string]string{"net.ipv4.ip_forward": "1", "vm.old": "1", "vm.swappiness": "1"}
	if diff := cmp.Diff(want, old.Config.Sysctl); diff != "" || old.Config.Pool.BlockSize != 25 || old.Config.BGP.Topology != TopologyMesh {
		t.Errorf("block size %d, topology %q, sysctl (-want +got):\n%s", old.Config.Pool.BlockSize, old.Config.BGP.Topology, diff)
	}
	if keys, err := ChangedKeys(t.Context(), Options{Root: root}, old); err != nil || len(keys) > 0 {
		t.Errorf("ChangedKeys = %v, %v", keys, err)
	}
	changed := []string{"pool.blockSize", "sysctl.net.netfilter.nf_conntrack_max", "sysctl.vm.old"}
	if diff := cmp.Diff(changed, old.ChangedDefaults()); diff != "" {
		t.Errorf("ChangedDefaults (-want +got):\n%s", diff)
	}
	if keys := now.ChangedDefaults(); len(keys) > 0 {
		t.Errorf("without an upgrade, ChangedDefaults = %v", keys)
	}
	// An edit counts, also of a key whose default changed.
	if err := os.WriteFile(root+MainFile, []byte(minimal+"  blockSize: 27\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := ChangedKeys(t.Context(), Options{Root: root}, old)
	if diff := cmp.Diff([]string{"pool.blockSize", "sysctl.vm.swappiness"}, keys); err != nil || diff != "" {
		t.Errorf("ChangedKeys (-want +got): %v\n%s", err, diff)
	}
}

// TestDigestOfFormat1: complete hosts keep the digest that an earlier firstboot
// computed. It omitted values that equal their defaults.
func TestDigestOfFormat1(t *testing.T) {
	l, err := loadText(t, minimal+"  blockSize: 26\n  natOutgoing: false\n")
	if err != nil {
		t.Fatal(err)
	}
	same, err := loadText(t, minimal+"  natOutgoing: false\n")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(saved(t, l)), "effective: 2\ndefaults: 2\n", "effective: 1\n", 1)
	old, err := LoadEffective([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if old.Digest != same.Digest || old.Defaults != 1 {
		t.Errorf("digest %s, defaults %d; want %s and 1", old.Digest, old.Defaults, same.Digest)
	}
}
