// Package provisiontest holds what the tests of the provisioning methods share.
package provisiontest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/test/boottest"
	"github.com/projecteru2/firstboot/test/program"
	"github.com/projecteru2/firstboot/units"
)

// Minimal is a configuration with the required keys only.
const Minimal = `etcd: {endpoints: ["http://10.0.0.1:2379"]}
pool: {cidr: 10.213.0.0/16}
`

// Secret is part of the secret in WithSecret.
const Secret = "cor'rect"

// WithSecret is a configuration with a secret that contains special characters of
// YAML, shells, systemd and URLs.
const WithSecret = Minimal + `node: {environment: {FELIX_SECRET: "` + Secret + `: \"horse\" %41 $(x) %n"}}
`

// WaitingForEtcd is a configuration with which a run waits for an etcd that does not
// exist. It ignores the findings that the small test machines would cause.
const WaitingForEtcd = WithSecret + `preflight: {ignore: [localhost, default-route, kernel-modules, sysctl, apparmor-parser, disk-space, docker-missing, artifact-missing, rpm-missing]}
`

// FakeDigest returns a valid SHA-256 that matches no file.
func FakeDigest() string { return strings.Repeat("ab", 32) }

// Load loads a configuration from its text.
func Load(t testing.TB, text string) *config.Loaded {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := config.Load(t.Context(), config.Options{Files: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// BuildProgram builds firstboot and returns its path.
func BuildProgram(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "firstboot")
	if err := program.Build(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Install installs the program and its units into a machine's image, except the files
// in without.
func Install(t testing.TB, m *boottest.Machine, program string, without ...string) {
	t.Helper()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	m.WriteFile("/usr/bin/firstboot", string(data), 0o755)
	for _, f := range units.ImageFiles() {
		if !strings.Contains(strings.Join(without, "\n")+"\n", f.Path+"\n") {
			m.WriteFile(f.Path, string(f.Data), 0o644)
		}
	}
}

// CheckConfigSource waits for the machine's run, which fails without an etcd, and
// checks that its configuration came from source.
func CheckConfigSource(t testing.TB, m *boottest.Machine, source string) {
	t.Helper()
	if code, out := m.ExitCode("firstboot", "status", "--wait=60s"); code != 1 {
		t.Errorf("firstboot status --wait: %d\n%s", code, out)
	}
	var shown struct {
		Values []struct{ Key, Origin string }
	}
	if err := json.Unmarshal([]byte(m.Run("firstboot", "config", "-o", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	origin := ""
	for _, v := range shown.Values {
		if v.Key == "pool.cidr" {
			origin = v.Origin
		}
	}
	if !strings.HasPrefix(origin, source+":") {
		t.Errorf("pool.cidr comes from %q, want %s", origin, source)
	}
}
