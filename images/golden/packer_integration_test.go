//go:build integration

package golden

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/test/boottest"
)

// recipe copies a recipe's files into a temporary directory, with a configuration.
func recipe(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(name, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, e.Name()), string(data), 0o755)
	}
	write(t, dir+"/my.yaml", minimal, 0o600)
	return dir
}

// Packer runs the unmodified recipe against a running machine, over SSH. The
// machine's disk must then be a sealed image.
func TestPackerRecipe(t *testing.T) {
	m := boottest.New(t, []string{"openssh-server"})
	dir := recipe(t, "packer")
	deb, _ := packages(t)
	if err := os.Rename(deb, dir+"/firstboot.deb"); err != nil {
		t.Fatal(err)
	}
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-m", "PEM", "-f", dir+"/key")
	public, err := os.ReadFile(dir + "/key.pub")
	if err != nil {
		t.Fatal(err)
	}
	m.WriteFile("/root/.ssh/authorized_keys", string(public), 0o600)
	m.Boot()
	m.Run("systemctl", "start", "ssh.service")

	packer := m.Net.Command("packer", "build", "firstboot.pkr.hcl")
	packer.Dir = dir
	packer.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1", "PACKER_CACHE_DIR="+t.TempDir(), "PACKER_CONFIG_DIR="+t.TempDir())
	out, err := packer.CombinedOutput()
	if err != nil {
		t.Fatalf("packer: %v\n%s", err, out)
	}
	for _, want := range []string{"sealed /: ", "clean: no machine identity left in /"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	m.Stop()
	command(t, m.Root+"/usr/bin/firstboot", "seal", "--check", "--root", m.Root)
	if !isEnabled(t, m.Root) {
		t.Error("the units are not enabled")
	}
	if text, err := os.ReadFile(m.Root + "/etc/firstboot/config.yaml"); err != nil || string(text) != minimal {
		t.Errorf("configuration: %v\n%s", err, text)
	}
	if left, err := filepath.Glob(m.Root + "/tmp/firstboot*"); err != nil || len(left) > 0 {
		t.Errorf("left in /tmp: %v, %v", left, err)
	}
}
