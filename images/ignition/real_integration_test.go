//go:build integration

package ignition

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/test/boottest"
	"github.com/projecteru2/firstboot/test/provisiontest"
	"github.com/projecteru2/firstboot/units"
)

// program is where Debian's package ignition has it: it is made to run in an
// initramfs.
const program = "/usr/lib/dracut/modules.d/30ignition/ignition"

// timed ends the run by itself: there is no etcd in these machines.
const timed = provisiontest.WaitingForEtcd + "timeouts: {total: 5s}\n"

// apply lets the real Ignition write the machine's files, as it does in an
// initramfs.
func apply(t *testing.T, m *boottest.Machine, data []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.ign")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// Debian's Ignition labels files by the image's SELinux policy, and fails
	// on an image without one: this one knows no labels.
	m.WriteFile("/etc/selinux/config", "SELINUX=disabled\nSELINUXTYPE=none\n", 0o644)
	m.WriteFile("/etc/selinux/none/contexts/files/file_contexts", "", 0o644)
	var all strings.Builder
	for _, stage := range []string{"fetch", "files"} {
		c := m.Net.Command(program, "--platform=file", "--root="+m.Root, "--stage="+stage, "--log-to-stdout",
			"--config-cache="+filepath.Join(dir, "cache.json"), "--neednet="+filepath.Join(dir, "neednet"))
		c.Env = append(os.Environ(), "IGNITION_CONFIG_FILE="+path)
		out, err := c.CombinedOutput()
		all.Write(out)
		if err != nil {
			return all.String(), fmt.Errorf("stage %s: %w", stage, err)
		}
	}
	return all.String(), nil
}

// runs boots, and wants firstboot's unit to have run with the configuration.
func runs(t *testing.T, m *boottest.Machine) {
	t.Helper()
	m.Boot()
	provisiontest.CheckConfigSource(t, m, config.MainFile)
	if got := m.Run("stat", "--format=%a %U:%G", config.MainFile); got != "600 root:root\n" {
		t.Errorf("%s is %s", config.MainFile, got)
	}
	if state := m.Run("systemctl", "show", "--value", "--property=ActiveState,Result", units.Service); !strings.Contains(state, "exit-code") {
		t.Errorf("%s: %s", units.Service, state)
	}
	if code, _ := m.ExitCode("systemctl", "is-active", units.Target); code == 0 {
		t.Errorf("%s was reached by a failed run", units.Target)
	}
}

// TestRealIgnitionInstallsFirstboot on an image without it, whatever its
// machine-id is: an empty one gets no presets.
func TestRealIgnitionInstallsFirstboot(t *testing.T) {
	path := provisiontest.BuildProgram(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Install: &images.Remote{URL: "http://127.0.0.1:8080/firstboot", SHA256: fmt.Sprintf("%x", sha256.Sum256(data))}, Hostname: "ign-1"}
	for _, id := range []string{"", "uninitialized\n"} {
		m := boottest.New(t, nil)
		m.WriteFile("/etc/machine-id", id, 0o444)
		m.Net.Serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) }))
		r, err := Render(provisiontest.Load(t, timed), o)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := apply(t, m, r.JSON); err != nil || strings.Contains(out, "cor'rect") {
			t.Fatalf("%v\n%s", err, out)
		}
		runs(t, m)
		if got := m.Run("cat", "/proc/sys/kernel/hostname"); got != "ign-1\n" {
			t.Errorf("host name %s", got)
		}
		m.Stop()
	}
}

// TestRealIgnitionConfiguresAnImage that has firstboot, its units not enabled:
// presets do that, where systemd applies them.
func TestRealIgnitionConfiguresAnImage(t *testing.T) {
	m := boottest.New(t, nil)
	m.WriteFile("/etc/machine-id", "uninitialized\n", 0o444)
	provisiontest.Install(t, m, provisiontest.BuildProgram(t), units.PresetPath)
	// Else Debian enables every unit, and nothing would be shown.
	m.WriteFile("/etc/systemd/system-preset/99-none.preset", "disable *\n", 0o644)
	m.WriteFile(config.MainFile, "# the image's\n", 0o644)
	r, err := Render(provisiontest.Load(t, timed), Options{Merge: []byte(`{"ignition": {"version": "3.2.0"}, "storage": {"files": [{"path": "/etc/theirs", "contents": {"source": "data:,theirs"}}]}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := apply(t, m, r.JSON); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	runs(t, m)
	if got := m.Run("cat", "/etc/theirs"); got != "theirs" {
		t.Errorf("/etc/theirs is %q", got)
	}
}

// TestRealIgnitionRefusesAnotherBinary: the hash is in force.
func TestRealIgnitionRefusesAnotherBinary(t *testing.T) {
	m := boottest.New(t, nil)
	m.Net.Serve(8080, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "another") }))
	r, err := Render(provisiontest.Load(t, timed), Options{Install: &images.Remote{URL: "http://127.0.0.1:8080/firstboot", SHA256: provisiontest.FakeDigest()}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := apply(t, m, r.JSON)
	if err == nil || !strings.Contains(out, "hash verification failed") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(m.Root, "usr/bin/firstboot")); err == nil {
		t.Error("it was put in place")
	}
}

// TestRealValidatorAgrees: the ignition-validate of the same package.
func TestRealValidatorAgrees(t *testing.T) {
	for name, o := range map[string]Options{"plain": {}, "install": {Install: install}, "merged": {Merge: []byte(theirs)}} {
		c := exec.CommandContext(t.Context(), "ignition-validate", "-")
		c.Stdin = strings.NewReader(string(render(t, o).JSON))
		if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
