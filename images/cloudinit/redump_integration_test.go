//go:build integration

package cloudinit

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/test/boottest"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

// redump is how cloud-init stores user-data, which firstboot reads: parsed as YAML 1.1
// and written again.
const redump = `
import sys
from cloudinit import safeyaml, util
sys.stdout.write("#cloud-config\n" + safeyaml.dumps(util.load_yaml(sys.stdin.read())))
`

// values are texts that YAML 1.1 reads as other types, or that cloud-init writes in
// another form.
const values = provisiontest.Minimal + `sysctl:
  net.netfilter.nf_conntrack_max: "1000000"
  kernel.core_pattern: "|/usr/local/sbin/collect-core --pid=%P --uid=%u --gid=%g --signal=%s --time=%t --name=%e --host=%h"
host: {name: "0123"}
node:
  environment:
    "NO": "n"
    FELIX_A: "off"
    FELIX_B: "0644"
    FELIX_C: 0644
    FELIX_D: 12:30:00
    FELIX_E: 2024-01-01
    FELIX_F: "a: b # c"
    FELIX_G: "caf\u00e9 \u2713 \U0001F600"
    FELIX_H: "1_000"
    FELIX_I: "long text that a person wrote here and that goes on for a good while until it is wider than eighty columns, twice: with 'quotes' and \"more quotes\" and a backslash \\ in it"
    FELIX_J: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    FELIX_K: "  leading and trailing and a very long line that is going to be folded because it has many words in it and more  "
    FELIX_M: "null"
    FELIX_N: "0x1F"
    FELIX_O: "1e3"
    FELIX_P: "=y"
    FELIX_Q: "~"
    FELIX_R: "0o17"
    FELIX_S: "yes"
    FELIX_T: ".inf"
    FELIX_U: "é long accented text é that goes on for a good while é until it is wider than eighty columns é twice \\ end"
`

// The host must load the values that validate showed, after real cloud-init has stored
// them.
func TestCloudInitStoresTheSameValues(t *testing.T) {
	m := boottest.New(t, []string{"cloud-init"})
	l := provisiontest.Load(t, values)
	for name, o := range map[string]Options{"key": {}, "with an installer": {Install: &images.Remote{URL: "http://10.0.0.5/firstboot", SHA256: provisiontest.FakeDigest()}}} {
		data, err := UserData(l, o)
		if err != nil {
			t.Fatal(err)
		}
		c := exec.CommandContext(t.Context(), "chroot", m.Root, "python3", "-c", redump)
		c.Stdin, c.Env = bytes.NewReader(data), []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
		stored, err := c.Output()
		if err != nil {
			t.Fatalf("%s: cloud-init: %v", name, err)
		}
		root := t.TempDir()
		path := filepath.Join(root, config.CloudConfigFile)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, stored, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := config.Load(t.Context(), config.Options{Root: root})
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, stored)
		}
		for key, want := range l.Config.Node.Environment {
			if d := cmp.Diff(want.Reveal(), again.Config.Node.Environment[key].Reveal()); d != "" {
				t.Errorf("%s: %s: %s", name, key, d)
			}
		}
		if again.Digest != l.Digest {
			t.Errorf("%s: the configuration read back is different:\n%s", name, stored)
		}
	}
}
