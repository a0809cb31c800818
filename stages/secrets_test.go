package stages_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/etcdtest"
	"github.com/projecteru2/firstboot/units"
)

// TestSecretsAreOnlyInPrivateFiles after a complete run: every user can read the
// arguments of a process, unit files and what systemctl show prints.
func TestSecretsAreOnlyInPrivateFiles(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{EnableV2: true})
	m := newHost(t, newCluster(t, etcd.Endpoint), "host1")
	m.override(`{node: {environment: {API_TOKEN: node-hunter2}}, minions: {environment: {API_TOKEN: "minions hunter2"}}}`)
	run := m.mustRun()
	m.wantStatus(state.Complete)
	found := map[string]bool{}
	for path, text := range m.tree() {
		if !strings.Contains(text, "hunter2") || strings.HasPrefix(path, config.DropInDir) {
			continue
		}
		found[path] = true
		if !strings.HasPrefix(text, "0600 ") {
			t.Errorf("%s contains a secret and has the mode %.4s", path, text)
		}
	}
	for _, path := range []string{units.CalicoNodeEnv, minionsConf} {
		if !found[path] {
			t.Errorf("%s does not contain its secret", path)
		}
	}
	for _, text := range slices.Concat(run.order, m.commands, m.docker.changes) {
		if strings.Contains(text, "hunter2") {
			t.Errorf("an argument contains a secret: %s", text)
		}
	}
	for _, unit := range []string{units.CalicoNode, units.Minions, units.Docker} {
		if strings.Contains(m.systemd.unit(unit).read, "hunter2") {
			t.Errorf("%s contains a secret", unit)
		}
	}
}

// TestDockerProgramIgnoresRootsConfiguration: /root/.docker/config.json may set
// proxies and credential helpers.
func TestDockerProgramIgnoresRootsConfiguration(t *testing.T) {
	t.Parallel()
	commands := 0
	for _, d := range stages.Diagnostics() {
		if d.Command.Name != "docker" {
			continue
		}
		commands++
		if d.Command.Args[0] != "--config="+units.DockerConfigDir {
			t.Errorf("%s runs %s", d.Name, d.Command)
		}
	}
	unit := withNode(t).get(units.CalicoNodePath)
	for line := range strings.Lines(unit) {
		if strings.HasPrefix(line, "Exec") && strings.Contains(line, "/docker ") {
			commands++
			if !strings.Contains(line, "/docker --config="+units.DockerConfigDir+" ") {
				t.Errorf("the unit has %s", line)
			}
		}
	}
	if commands < 8 {
		t.Errorf("found only %d docker commands", commands)
	}
}
