package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExplicitOmitsDefaultsAndLoadsTheSame(t *testing.T) {
	text := `etcd: {endpoints: ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]}
sysctl: {net.core.somaxconn: 1024}
pool: {cidr: 10.213.0.0/16, natOutgoing: false}
node: {environment: {FELIX_X: "cor\"rect: {horse}"}}
report: {url: "http://u:secret@10.0.0.9/done"}
timeouts: {total: 90s}
`
	first := mustLoad(t, Options{Root: rootWith(t, map[string]string{MainFile: text})})
	explicit := first.Explicit()
	if strings.Contains(string(explicit), "blockSize") {
		t.Errorf("it contains a default:\n%s", explicit)
	}
	path := filepath.Join(t.TempDir(), "explicit.yaml")
	if err := os.WriteFile(path, explicit, 0o600); err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, Options{Files: []string{path}})
	if first.Digest != again.Digest {
		t.Errorf("it loads as a different configuration:\n%s", explicit)
	}
}

func TestHoldsSecrets(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                   false,
		"node: {environment: {A: b}}":        true,
		"report: {url: 'http://a/b'}":        true, // the path may be a secret
		"report: {url: 'http://a:1'}":        false,
		"report: {url: 'http://a/b?sig=12'}": true,
	} {
		l := mustLoad(t, Options{Root: rootWith(t, map[string]string{MainFile: "etcd: {endpoints: [\"http://a:1\"]}\npool: {cidr: 10.213.0.0/16}\n" + text})})
		if got := l.HoldsSecrets(); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
