//go:build integration

package cloudinit

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/test/boottest"
	"github.com/projecteru2/firstboot/test/provisiontest"
	"github.com/projecteru2/firstboot/units"
)

// shortRun limits the run to 15 s, since these machines have no etcd.
const shortRun = provisiontest.WaitingForEtcd + "timeouts: {total: 15s}\n"

// machine returns a machine with cloud-init.
func machine(t *testing.T) *boottest.Machine {
	m := boottest.New(t, []string{"cloud-init"})
	// Debian's modules, except those whose programs are missing in this small root:
	// sshd and locales.
	m.WriteFile("/etc/cloud/cloud.cfg.d/90_test.cfg", `datasource_list: [NoCloud]
cloud_init_modules: [migrator, seed_random, bootcmd, write-files, growpart, resizefs, disk_setup, mounts, set_hostname, update_hostname, update_etc_hosts, users-groups]
cloud_config_modules: [snap, ssh-import-id, grub-dpkg, apt-configure, ntp, timezone, disable-ec2-metadata, runcmd, byobu]
`, 0o644)
	m.WriteFile("/etc/machine-id", "uninitialized\n", 0o444)
	return m
}

// writeSeed writes the seed directory into the machine's image.
func writeSeed(t *testing.T, m *boottest.Machine, s Seed) {
	t.Helper()
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		m.WriteFile("/var/lib/cloud/seed/nocloud/"+f.Name, string(f.Data), 0o600)
	}
}

// checkCloudInit waits for cloud-init, and checks that it reports no problem and did
// not wait for the run.
func checkCloudInit(t *testing.T, m *boottest.Machine) {
	t.Helper()
	code, out := m.ExitCode("cloud-init", "status", "--wait", "--long")
	if code != 0 || !strings.Contains(out, "status: done") {
		t.Errorf("cloud-init status: %d\n%s", code, out)
	}
	if state := m.Run("systemctl", "show", "--value", "--property=ActiveState", units.Service); strings.TrimSpace(state) != "activating" {
		t.Errorf("when cloud-init had finished, %s was %s", units.Service, state)
	}
	if _, log := m.ExitCode("grep", "-e", "WARNING", "-e", "Traceback", "-e", "ERROR", "/var/log/cloud-init.log"); log != "" {
		t.Errorf("cloud-init's log has warnings:\n%s", log)
	}
	if log := m.Run("journalctl", "-b", "--no-pager"); strings.Contains(log, "ordering cycle") {
		t.Errorf("systemd reports an ordering cycle:\n%s", log)
	}
}

// checkSecret checks that neither the journal nor a file that others can read
// contains the secret.
func checkSecret(t *testing.T, m *boottest.Machine) {
	t.Helper()
	out, _ := m.Output("sh", "-c", `find / -xdev -type f -perm /044 -not -path '/proc/*' -not -path '/sys/*' -exec grep -l "cor'rect" {} + | while read -r f; do
  d=$f; hidden=; while [ "$d" != / ]; do d=$(dirname "$d"); [ "$(stat -c %A "$d" | cut -c 10)" = x ] || hidden=1; done; [ -n "$hidden" ] || echo "$f"; done`)
	if strings.TrimSpace(out) != "" {
		t.Errorf("other users can read the secret in:\n%s", out)
	}
	if log := m.Run("journalctl", "-b", "--no-pager"); strings.Contains(log, "cor'rect") {
		t.Error("the secret is in the journal")
	}
}

// Each test boots a machine with cloud-init.
func TestRealCloudInit(t *testing.T) {
	binary := provisiontest.BuildProgram(t)
	parallel := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
	}
	parallel("key", func(t *testing.T) { passesConfig(t, binary, Options{}, config.CloudConfigFile) })
	parallel("write_files", func(t *testing.T) { passesConfig(t, binary, Options{WriteFiles: true}, config.MainFile) })
	parallel("install", func(t *testing.T) { installs(t, binary) })
}

// passesConfig boots an image with firstboot and user-data. The run must start after
// cloud-config.service, and cloud-init must not wait for it.
func passesConfig(t *testing.T, binary string, o Options, source string) {
	m := machine(t)
	provisiontest.Install(t, m, binary)
	data, _ := userData(t, provisiontest.Load(t, shortRun), o)
	writeSeed(t, m, Seed{UserData: []byte(data), Hostname: "web-1"})
	m.Boot()
	checkCloudInit(t, m)
	provisiontest.CheckConfigSource(t, m, source)
	checkSecret(t, m)
	if got := strings.TrimSpace(m.Run("cat", "/proc/sys/kernel/hostname")); got != "web-1" {
		t.Errorf("host name %s", got)
	}
	if out := m.Run("cloud-init", "schema", "--system"); !strings.Contains(out, "Valid cloud-config") {
		t.Error(out)
	}
	order := m.Run("systemctl", "show", "--property=After", units.Service)
	if strings.Contains(order, "cloud-final") || !strings.Contains(order, "cloud-config.service") {
		t.Error(order)
	}
}

// installs boots a stock image with user-data that installs firstboot. The server
// fails first, and the power is cut during the installation.
func installs(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := machine(t)
	var requests atomic.Int64
	m.Net.Serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch requests.Add(1) {
		case 1:
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		case 2:
			_, _ = w.Write(data[:len(data)/2])
		default:
			http.ServeFile(w, r, path)
		}
	}))
	from := &images.Remote{URL: "http://127.0.0.1:8080/firstboot?token=very-secret", SHA256: fmt.Sprintf("%x", sha256.Sum256(data))}
	text, _ := userData(t, provisiontest.Load(t, shortRun), Options{Install: from})
	writeSeed(t, m, Seed{UserData: []byte(text)})

	m.Boot()
	code, out := m.ExitCode("cloud-init", "status", "--wait", "--long")
	if code != 0 || !strings.Contains(out, "status: done") {
		t.Fatalf("cloud-init status: %d\n%s", code, out)
	}
	// cloud-init finishes before the installer; cut the power then.
	if code, _ := m.ExitCode("test", "-e", "/usr/bin/firstboot"); code == 0 {
		t.Error("cloud-init waited for the installer")
	}
	m.CutPower()
	m.Boot()
	waitForFile(t, m, "/usr/local/lib/firstboot/installed")
	checkCloudInit(t, m)
	provisiontest.CheckConfigSource(t, m, config.CloudConfigFile)
	checkSecret(t, m)
	if log := m.Run("journalctl", "--no-pager"); !strings.Contains(log, "want "+from.SHA256) || strings.Contains(log, "very-secret") {
		t.Errorf("the journal does not report the truncated download, or contains the token:\n%s", log)
	}

	// The next boot downloads nothing and changes nothing.
	before := requests.Load()
	m.Stop()
	m.Boot()
	m.Run("cloud-init", "status", "--wait")
	provisiontest.CheckConfigSource(t, m, config.CloudConfigFile)
	if got, _ := m.ExitCode("systemctl", "is-enabled", "firstboot-install.service"); got == 0 || requests.Load() != before {
		t.Errorf("the installer ran again: %d requests, then %d", before, requests.Load())
	}
}

// waitForFile waits until a file exists on the machine.
func waitForFile(t *testing.T, m *boottest.Machine, path string) {
	t.Helper()
	if code, out := m.ExitCode("timeout", "90", "sh", "-c", `until [ -e "$0" ]; do sleep 0.3; done`, path); code != 0 {
		t.Fatalf("%s does not exist after 90s: %s", path, out)
	}
}

// blkid reads the volume label, by which cloud-init finds the disk, and xorriso reads
// the files. The lab tests that a kernel mounts it.
func TestSeedDiskIsReadByOtherTools(t *testing.T) {
	data, _ := userData(t, provisiontest.Load(t, shortRun), Options{})
	image, err := Seed{UserData: []byte(data), Hostname: "web-2"}.ISO()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "seed.iso")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "blkid", "--probe", "--match-tag", "LABEL", "--output", "value", path).CombinedOutput()
	if err != nil || string(out) != "cidata\n" {
		t.Errorf("blkid: %v, %s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", filepath.Join(dir, "files")).CombinedOutput()
	if err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "files", "user-data")); err != nil || string(got) != data {
		t.Errorf("user-data: %v\n%s", err, got)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "files", "meta-data")); err != nil || !strings.Contains(string(got), "web-2") {
		t.Errorf("meta-data: %v\n%s", err, got)
	}
}
