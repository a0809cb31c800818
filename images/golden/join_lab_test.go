//go:build lab

package golden

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/journal"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/lab"
	labimage "github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// labEtcd is where the lab's etcd listens, as its default network has it.
const labEtcd = "10.123.0.1"

// count is set up before the run: what this host begins to say to others. Apart
// are etcd, its own containers, IGMP, by which the kernel itself reports
// multicast groups, and answers of sshd to the lab: connections that are older
// than the count look new to it.
const count = `set -e
iptables -t mangle -N COUNT
iptables -t mangle -A COUNT -o lo -j RETURN
iptables -t mangle -A COUNT -o cali+ -j RETURN
iptables -t mangle -A COUNT -p igmp -j RETURN
iptables -t mangle -A COUNT -p tcp --sport 22 -j RETURN
iptables -t mangle -A COUNT -d ` + labEtcd + ` -p tcp --dport 2379 -j RETURN
iptables -t mangle -A COUNT -m comment --comment elsewhere
iptables -t mangle -A OUTPUT -m conntrack --ctstate NEW -j COUNT
`

// baked are the files that bake gives an image for the lab's configuration, but
// for those that the lab's own image has already.
func baked(t *testing.T) []labimage.File {
	t.Helper()
	text := fmt.Sprintf("etcd: {endpoints: [\"http://%s:2379\"]}\npool: {cidr: %s}\n", labEtcd, lab.PoolCIDR)
	b := newBake(t, write(t, t.TempDir()+"/my.yaml", text, 0o600))
	b.Files = func(c *config.Config, h *host.Host) ([]File, error) {
		list, err := stages.ImageFiles(c, h)
		var files []File
		for _, f := range list {
			files = append(files, File{Path: f.Path, Data: f.Data, Mode: f.Mode})
		}
		return files, err
	}
	bake(t, b)
	var files []labimage.File
	for _, path := range []string{stages.DaemonPath, "/etc/systemd/network/10-calico.link"} {
		data, err := b.Host.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, labimage.File{Path: path, Data: data, Mode: 0o644})
	}
	return files
}

// A host of a baked image with a bundle joins with no network but etcd, and its
// Docker is neither restarted nor told to reload.
func TestABakedHostJoinsWithNoNetworkButEtcd(t *testing.T) {
	files := append(baked(t),
		labimage.File{Path: "/etc/count.sh", Data: []byte(count), Mode: 0o644},
		labimage.File{Path: "/etc/systemd/system/firstboot.service.d/count.conf", Data: []byte("[Service]\nExecStartPre=/bin/sh /etc/count.sh\n"), Mode: 0o644})
	l := labtest.New(t, lab.Options{Hosts: 1, Files: files})
	ctx := labtest.Within(t, 25*time.Minute)
	if err := l.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	h := l.Hosts[0]
	if err := h.WaitUp(ctx); err != nil {
		t.Fatal(err)
	}
	// The marker is written last, by a run that has verified everything; to
	// ask for the status would be more talk to etcd.
	err := h.Wait(ctx, "the marker", func(ctx context.Context) error {
		_, err := h.Output(ctx, "test -e "+journal.Marker)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(command string) string {
		t.Helper()
		out, err := h.Output(ctx, command)
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return out
	}
	counters := ask("iptables -t mangle -L COUNT -v -x -n")
	packets := regexp.MustCompile(`(?m)^\s*(\d+)\s+\d+\s.*(dpt:2379|elsewhere)`).FindAllStringSubmatch(counters, -1)
	if len(packets) != 2 || packets[0][1] == "0" || packets[1][1] != "0" {
		t.Errorf("connections to etcd should be counted, and no others be there:\n%s", counters)
	}
	if starts := ask("journalctl -b -u docker -o cat | grep -c 'Started docker.service'"); strings.TrimSpace(starts) != "1" {
		t.Errorf("Docker started %s times", starts)
	}
	if reloads := ask("journalctl -b -u docker -o cat | grep -ci 'reload' || true"); strings.TrimSpace(reloads) != "0" {
		t.Errorf("Docker was told to reload:\n%s", ask("journalctl -b -u docker --no-pager"))
	}
	if daemon := ask("cat " + stages.DaemonPath); daemon != string(files[0].Data) {
		t.Errorf("daemon.json was written anew: %s", daemon)
	}
}
