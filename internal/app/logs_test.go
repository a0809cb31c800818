package app_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/secret"
)

const withToken = validConfig + "node: {environment: {A: s3cretpw}}\n"

// collect returns the text of each file of a bug report in which a command and a
// file repeat a secret.
func (m *machine) collect() map[string]string {
	m.t.Helper()
	m.writeFile("/etc/noted", "noted s3cretpw")
	files, err := app.CollectLogs(m.ctx, m.options(), app.Diagnostics{
		Files:    []string{"/etc/noted", "/etc/docker/daemon.json"},
		Commands: []app.Diagnostic{{Name: "command.txt", Command: host.Command{Name: "echo", Args: []string{"printed", "s3cretpw"}}}},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	texts := map[string]string{}
	for _, f := range files {
		if strings.Contains(f.Text, "s3cretpw") {
			m.t.Errorf("%s contains the secret:\n%s", f.Name, f.Text)
		}
		texts[f.Name] = f.Text
	}
	return texts
}

func TestLogsMaskTheConfigurationInEffect(t *testing.T) {
	m := newMachine(t)
	m.writeFile("/etc/firstboot/config.yaml", withToken)
	if got := m.collect()["files/etc/noted"]; got != "noted ***" {
		t.Errorf("before a run: %q", got)
	}
	m.runs(app.ExitDone)
	m.writeFile("/etc/firstboot/config.yaml", validConfig)
	if got := m.collect()["files/etc/noted"]; got != "noted ***" {
		t.Errorf("after the source lost the secret: %q", got)
	}
	other := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(other, []byte(validConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	m.files = []string{other}
	if got := m.collect()["files/etc/noted"]; got != "noted ***" {
		t.Errorf("with another file named: %q", got)
	}
}

// TestLogsOmitTextWithoutTheConfiguration: a saved configuration that is
// damaged, no configuration, or a file that cannot be read.
func TestLogsOmitTextWithoutTheConfiguration(t *testing.T) {
	damaged := newMachine(t)
	damaged.writeFile("/etc/firstboot/config.yaml", withToken)
	damaged.runs(app.ExitDone)
	damaged.writeFile("/var/lib/firstboot/effective.yaml", "effective: 2\nconfig: [\n")
	invalid := newMachine(t)
	invalid.writeFile("/etc/firstboot/config.yaml", withToken+"pol: {}\n")
	missing := newMachine(t)
	missing.writeFile("/etc/firstboot/config.yaml", withToken)
	missing.files = []string{"/does/not/exist.yaml"}
	for name, m := range map[string]*machine{"damaged": damaged, "invalid": invalid, "missing": missing} {
		m.t = t
		texts := m.collect()
		for _, file := range []string{"files/etc/noted", "command.txt"} {
			if got := texts[file]; got != secret.Omitted && got != "" {
				t.Errorf("%s: %s is %q", name, file, got)
			}
		}
		if !strings.Contains(texts["config.yaml"], ".yaml") {
			t.Errorf("%s: config.yaml does not state why: %q", name, texts["config.yaml"])
		}
		if text, err := app.BootLog(t.Context(), m.options()); err == nil || text != "" {
			t.Errorf("%s: BootLog = %q, %v", name, text, err)
		}
	}
}

// TestLogsRedactDaemonJSON: only the values of known keys are shown.
func TestLogsRedactDaemonJSON(t *testing.T) {
	m := newMachine(t)
	m.writeFile("/etc/firstboot/config.yaml", withToken)
	m.writeFile("/etc/docker/daemon.json", `{"storage-driver": "overlay2", "cluster-store": "etcd://u:hidden1@h:1", "mtu": 1450,
		"proxies": {"http-proxy": "http://u:hidden2@proxy"}, "log-opts": {"splunk-token": "hidden3", "max-size": "10m"}, "x": ["hidden4", {"y": "hidden5"}]}`)
	var got map[string]any
	text := m.collect()["files/etc/docker/daemon.json"]
	if err := json.Unmarshal([]byte(text), &got); err != nil || strings.Contains(text, "hidden") {
		t.Errorf("%v\n%s", err, text)
	}
	if got["storage-driver"] != "overlay2" || got["cluster-store"] != "etcd://***@h:1" || got["mtu"] != 1450.0 || got["log-opts"].(map[string]any)["max-size"] != "10m" {
		t.Errorf("%s", text)
	}
	m.writeFile("/etc/docker/daemon.json", `{"x": "hidden"} {"y": "hidden"}`)
	if text := m.collect()["files/etc/docker/daemon.json"]; text != secret.Omitted+"\n" {
		t.Errorf("two values: %q", text)
	}
}
