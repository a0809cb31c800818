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

// ignitionPath is the path in Debian's package ignition, which is made for an
// initramfs.
const ignitionPath = "/usr/lib/dracut/modules.d/30ignition/ignition"

// shortRun limits the run to 5 s, since these machines have no etcd.
const shortRun = provisiontest.WaitingForEtcd + "timeouts: {total: 5s}\n"

// apply runs Ignition on the machine's files, as in an initramfs.
func apply(t *testing.T, m *boottest.Machine, data []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.ign")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// Debian's Ignition labels files according to the image's SELinux policy and
	// fails without one. This policy has no labels.
	m.WriteFile("/etc/selinux/config", "SELINUX=disabled\nSELINUXTYPE=none\n", 0o644)
	m.WriteFile("/etc/selinux/none/contexts/files/file_contexts", "", 0o644)
	var all strings.Builder
	for _, stage := range []string{"fetch", "files"} {
		c := m.Net.Command(ignitionPath, "--platform=file", "--root="+m.Root, "--stage="+stage, "--log-to-stdout",
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

// checkRun boots the machine and checks that firstboot's unit ran with the
// configuration.
func checkRun(t *testing.T, m *boottest.Machine) {
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
		t.Errorf("%s is active after a failed run", units.Target)
	}
}

// The image has no firstboot. With an empty machine-id systemd does not apply presets.
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
		r, err := Render(provisiontest.Load(t, shortRun), o)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := apply(t, m, r.JSON); err != nil || strings.Contains(out, "cor'rect") {
			t.Fatalf("%v\n%s", err, out)
		}
		checkRun(t, m)
		if got := m.Run("cat", "/proc/sys/kernel/hostname"); got != "ign-1\n" {
			t.Errorf("host name %s", got)
		}
		m.Stop()
	}
}

// The image has firstboot, but its units are not enabled: systemd's presets do that.
func TestRealIgnitionConfiguresAnImage(t *testing.T) {
	m := boottest.New(t, nil)
	m.WriteFile("/etc/machine-id", "uninitialized\n", 0o444)
	provisiontest.Install(t, m, provisiontest.BuildProgram(t), units.PresetPath)
	// Otherwise Debian enables every unit, and the test would show nothing.
	m.WriteFile("/etc/systemd/system-preset/99-none.preset", "disable *\n", 0o644)
	m.WriteFile(config.MainFile, "# the image's\n", 0o644)
	r, err := Render(provisiontest.Load(t, shortRun), Options{Merge: []byte(`{"ignition": {"version": "3.2.0"}, "storage": {"files": [{"path": "/etc/theirs", "contents": {"source": "data:,theirs"}}]}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := apply(t, m, r.JSON); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkRun(t, m)
	if got := m.Run("cat", "/etc/theirs"); got != "theirs" {
		t.Errorf("/etc/theirs is %q", got)
	}
}

func TestRealIgnitionRefusesABinaryWithAnotherHash(t *testing.T) {
	m := boottest.New(t, nil)
	m.Net.Serve(8080, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "another") }))
	r, err := Render(provisiontest.Load(t, shortRun), Options{Install: &images.Remote{URL: "http://127.0.0.1:8080/firstboot", SHA256: provisiontest.FakeDigest()}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := apply(t, m, r.JSON)
	if err == nil || !strings.Contains(out, "hash verification failed") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(m.Root, "usr/bin/firstboot")); err == nil {
		t.Error("the binary was installed")
	}
}

// ignition-validate is in the same package.
func TestIgnitionValidateAcceptsTheConfigs(t *testing.T) {
	for name, o := range map[string]Options{"plain": {}, "install": {Install: install}, "merged": {Merge: []byte(theirs)}} {
		c := exec.CommandContext(t.Context(), "ignition-validate", "-")
		c.Stdin = strings.NewReader(string(render(t, o).JSON))
		if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
