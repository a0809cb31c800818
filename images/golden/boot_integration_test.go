//go:build integration

package golden

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/test/boottest"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

func imageHost(root string) *host.Host { return host.New(root, host.Offline()) }

// keys returns the fingerprints of a machine's SSH host keys.
func keys(t *testing.T, root string) string {
	t.Helper()
	found, err := filepath.Glob(root + "/etc/ssh/ssh_host_*_key.pub")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, path := range found {
		all = append(all, command(t, "ssh-keygen", "-lf", path))
	}
	return strings.Join(all, "")
}

// boot boots a machine and waits until its run has started.
func boot(t *testing.T, m *boottest.Machine) {
	t.Helper()
	m.Boot()
	m.Run("systemctl", "start", "multi-user.target") // waits for the boot
	deadline := time.Now().Add(time.Minute)
	for !host.New(m.Root, host.Offline()).Exists(state.JournalPath) {
		if time.Now().After(deadline) {
			t.Fatalf("no run has started:\n%s", m.Run("systemctl", "status", "--no-pager", "firstboot.service"))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// sealIsRefusedWithoutConsent runs seal on a live machine without consent, and with a
// person at a terminal who answers no.
func sealIsRefusedWithoutConsent(t *testing.T, m *boottest.Machine) {
	t.Helper()
	for _, flags := range []string{"", "--yes", "--this-machine", "--root /proc/self/root --yes"} {
		if code, out := m.ExitCode("sh", "-c", "firstboot seal "+flags+" </dev/null"); code != 2 || !strings.Contains(out, "nothing was changed") {
			t.Errorf("firstboot seal %s: %d\n%s", flags, code, out)
		}
	}
	name := strings.TrimSpace(m.Run("hostname"))
	code, out := m.ExitCode("sh", "-c", "echo n | script --quiet --return --command 'firstboot seal --this-machine' /dev/null")
	if code != 1 || !strings.Contains(out, "("+name+")") || !strings.Contains(out, "not sealed: nothing was changed") {
		t.Errorf("firstboot seal --this-machine on a terminal: %d\n%s", code, out)
	}
}

// A baked image starts a run at boot. A sealed image boots as a new machine with
// its own machine-id and SSH host keys.
func TestSealedImageBootsAsANewMachine(t *testing.T) {
	m := boottest.New(t, []string{"openssh-server"})
	binary := provisiontest.BuildProgram(t)
	cfg := write(t, t.TempDir()+"/my.yaml", minimal, 0o600)
	command(t, binary, "bake", "--root", m.Root, "--config", cfg)

	boot(t, m)
	first := m.Run("cat", "/etc/machine-id")
	firstKeys := keys(t, m.Root)
	sealIsRefusedWithoutConsent(t, m)
	if id := m.Run("cat", "/etc/machine-id"); id != first {
		t.Fatalf("a refused seal changed the machine-id to %q", id)
	}
	m.Stop()

	host := imageHost(m.Root)
	if left := identities(t, host, SealOptions{}); !strings.Contains(strings.Join(left, "\n"), "/var/lib/firstboot/journal.json") ||
		!strings.Contains(strings.Join(left, "\n"), "machine-id empty") {
		t.Fatalf("the boot left no machine identity: %q", left)
	}
	command(t, binary, "seal", "--root", m.Root)
	command(t, binary, "seal", "--root", m.Root, "--check")
	if id, err := os.ReadFile(m.Root + "/etc/machine-id"); err != nil || len(id) > 0 {
		t.Fatalf("machine-id: %q, %v", id, err)
	}

	boot(t, m)
	if second := m.Run("cat", "/etc/machine-id"); second == first || len(strings.TrimSpace(second)) != 32 {
		t.Errorf("machine-id %q, before the seal %q", second, first)
	}
	m.Run("systemctl", "is-active", "ssh.service")
	if out := keys(t, m.Root); out == "" || out == firstKeys {
		t.Errorf("SSH host keys:\n%sbefore the seal\n%s", out, firstKeys)
	}
	if out := m.Run("journalctl", "-b", "--no-pager"); strings.Contains(out, "ordering cycle") {
		t.Errorf("systemd reports an ordering cycle:\n%s", out)
	}
	m.Stop()

	// firstboot-ssh-keys.service does nothing on a machine that has keys.
	third := keys(t, m.Root)
	boot(t, m)
	if out := keys(t, m.Root); out != third {
		t.Errorf("the keys changed at the second boot:\n%s%s", third, out)
	}
}
