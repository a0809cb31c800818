//go:build lab && soak

package provisioning

import (
	"context"
	"embed"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vincent-petithory/dataurl"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

//go:embed ignition_soak_test.go
var ignitionSources embed.FS

// TestIgnitionOnDebian13 boots a host that Debian 13's own Ignition has configured.
// It is the first host of its cluster, so it creates the pool. TestProvisioningMethods
// has an Ignition host with Debian 12; a second one would take too long for every
// change.
func TestIgnitionOnDebian13(t *testing.T) {
	e := newEnvironment(t)
	host := newIgnitionHost13(t, e)
	labtest.NoError(t, host.h.Boot(labtest.Context(t)))
	labtest.Step(t, "Ignition: a Debian 13 host with a local network and TLS joins", host.wantJoined)
	labtest.Step(t, "its AppArmor, cgroup v2 and IPv6 are unchanged", func(t *testing.T) { wantDebian13(t, host.h) })
	labtest.Step(t, "it has the files that Ignition wrote", host.wantFiles)
	labtest.Step(t, "a container on its network answers the host", func(t *testing.T) { wantReachable(t, host.h) })
	labtest.Step(t, "after a reboot it is complete without a run", host.wantCompleteAfterReboot)
}

// newIgnitionHost13 creates a host with Debian 13. The client's certificate comes
// from a base config.
func newIgnitionHost13(t *testing.T, e *environment) ignitionHost {
	t.Helper()
	in, err := e.initramfs13(labtest.Context(t))
	labtest.NoError(t, err)
	return e.addIgnitionHost(t, e.lab.Images[golden.Debian13], in, e.config13, "--merge", e.baseConfig(t))
}

// initramfs13 returns a root directory of Debian 13 with its Ignition.
func (e *environment) initramfs13(ctx context.Context) (initramfs, error) {
	own, err := ignitionSources.ReadFile("ignition_soak_test.go")
	if err != nil {
		return initramfs{}, err
	}
	dir, err := e.store().Get(ctx, "ignition-initramfs", cache.Key(string(own)), func(ctx context.Context, dir string) error {
		args := []string{"--quiet", "--variant=minbase", "--mode=root", "--include=ignition,policycoreutils", string(golden.Debian13), filepath.Join(dir, "root")}
		if mirror := os.Getenv("DEBIAN_MIRROR"); mirror != "" {
			args = append(args, mirror)
		}
		_, err := run(ctx, "mmdebstrap", args...)
		return err
	})
	return initramfs{root: filepath.Join(dir, "root")}, err
}

// baseConfig writes an operator's Ignition config, which contains etcd's certificates,
// and returns its path.
func (e *environment) baseConfig(t *testing.T) string {
	t.Helper()
	certificates, err := lab.CertificateFiles(e.lab.Etcd.Certificates())
	labtest.NoError(t, err)
	var files []map[string]any
	for _, f := range certificates {
		files = append(files, map[string]any{"path": f.Path, "mode": int(f.Mode), "contents": map[string]any{"source": dataurl.EncodeBytes(f.Data)}})
	}
	data, err := json.Marshal(map[string]any{"ignition": map[string]any{"version": "3.3.0"}, "storage": map[string]any{"files": files}})
	labtest.NoError(t, err)
	path := filepath.Join(e.lab.Dir, "base.ign")
	labtest.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// wantFiles checks the configuration and the certificates, and that the host used
// them.
func (i ignitionHost) wantFiles(t *testing.T) {
	labtest.Equal(t, "modes of the configuration and of the client's key", "600\n600\n", labtest.Run(t, i.h, 0, "stat -c %a /etc/firstboot/config.yaml /etc/firstboot/etcd/client-key.pem"))
	labtest.Contains(t, labtest.Run(t, i.h, 0, "firstboot config"), "https://", "/etc/firstboot/config.yaml")
	labtest.Contains(t, labtest.Run(t, i.h, 0, "cat /var/lib/firstboot/adapter.json"), "firstboot-"+lab.Network)
	labtest.Contains(t, i.e.requestsOf(i.h), "/calicoctl", "/eru-minions.rpm")
	labtest.NotContains(t, labtest.Run(t, i.h, 0, "journalctl --no-pager -b"), secret, "ordering cycle")
}

// wantReachable starts a container on the host's network. The host pings it.
func wantReachable(t *testing.T, h *lab.Host) {
	ctx := labtest.Within(t, 5*time.Minute)
	c, err := h.StartContainer(ctx, "answers", "--restart=always")
	labtest.NoError(t, err)
	wantAnswer(t, c)
	labtest.Run(t, h, 0, "firstboot verify")
}

func wantAnswer(t *testing.T, c lab.Container) {
	t.Helper()
	labtest.NoError(t, c.Host.Wait(labtest.Within(t, 5*time.Minute), "an answer of "+c.Name, func(ctx context.Context) error {
		_, err := c.Host.Output(ctx, "ping -c 1 -W 2 "+c.Address.String())
		return err
	}))
}

// wantCompleteAfterReboot checks that the host uses its marker, and that its
// container runs and answers again.
func (i ignitionHost) wantCompleteAfterReboot(t *testing.T) {
	h := i.h
	labtest.NoError(t, h.Reboot(labtest.Context(t)))
	labtest.NoError(t, h.Wait(labtest.Within(t, 5*time.Minute), "firstboot-complete.target", targetReached(h)))
	labtest.Contains(t, labtest.Run(t, h, 0, "journalctl --no-pager -b -u firstboot -o cat"), "complete (not re-checked)")
	ctx := labtest.Within(t, restartTimeout)
	labtest.NoError(t, h.WaitRunning(ctx, "answers"))
	c, err := h.Container(ctx, "answers")
	labtest.NoError(t, err)
	wantAnswer(t, c)
}
