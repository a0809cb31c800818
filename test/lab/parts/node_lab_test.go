//go:build lab

package parts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unpackImage unpacks the archive's only layer.
func unpackImage(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	sh(t, "mkdir %[1]s/x && tar -xf %[2]s -C %[1]s/x && tar -xf %[1]s/x/*/layer.tar -C %[1]s && rm -r %[1]s/x", root, builtParts(t).NodeImage)
	return root
}

func TestImageHasAllPrograms(t *testing.T) {
	root := unpackImage(t)
	for command, want := range map[string]string{
		"calico-node -v":                     CalicoVersion,
		"bird --version":                     "BIRD version 1.6",
		"bird6 --version":                    "BIRD version 1.6",
		"birdcl -s /none":                    "Unable to connect", // shows that it starts
		"iptables-legacy --version":          "(legacy)",
		"iptables-nft --version":             "(nf_tables)",
		"iptables-save --version":            "(legacy)",
		"ip6tables-legacy-restore --version": "(legacy)",
		"ip6tables-nft-restore --version":    "(nf_tables)",
		"ipset --version":                    "ipset v",
		"conntrack --version":                "conntrack v",
		"ip -V":                              "ip utility",
		"tc -V":                              "tc utility",
		"bash --version":                     "GNU bash",
		"sh -c 'echo $BASH_VERSION'":         "5.",
		"sv":                                 "usage: sv",
		"svlogd":                             "usage: svlogd",
		"runsv":                              "usage: runsv",
		"which runsvdir start_runit":         "runsvdir",
		"iptables-legacy -m set -h | tail":   "match-set",
		"ls /etc/service":                    "available",
		"cat /etc/calico/felix.cfg":          "LogFilePath",
	} {
		out, _ := trySh(t.Context(), "chroot %s /bin/sh -c \"%s\"", root, strings.ReplaceAll(command, "$", `\$`))
		if !strings.Contains(out, want) {
			t.Errorf("%s prints %q, want %q in it", command, out, want)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "etc/service/enabled")); err == nil {
		t.Error("/etc/service/enabled exists: Calico's startup script would fail to create it")
	}
}

// running is calico-node running on a host of the test, from the image's file system.
type running struct {
	host, root string
	pid        int
}

// startNode runs the image's command in a host's namespace, with the environment of
// calicoctl node run.
func startNode(t *testing.T, host, address string) running {
	t.Helper()
	root := unpackImage(t)
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SVDIR=/etc/service/enabled", "CALICO_MANAGE_CNI=false",
		"NODENAME=" + host, "IP=" + address, "AS=64512", "NO_DEFAULT_POOLS=true", "CALICO_NETWORKING_BACKEND=bird",
		"DATASTORE_TYPE=etcdv3", "ETCD_ENDPOINTS=" + etcdURL, "FELIX_HEALTHENABLED=true",
	}
	// ip netns exec creates a mount namespace. All commands after it run in the
	// same process.
	mounts := `mount -t proc proc $0/proc && mount -t sysfs sysfs $0/sys && mount --rbind /dev $0/dev && mkdir -p $0/run/calico && exec chroot $0 start_runit`
	pid := start(t, "calico-node on "+host, env, "ip", "netns", "exec", host, "sh", "-c", mounts, root)
	return running{host, root, pid}
}

// exec runs a command like docker exec.
func (r running) exec(ctx context.Context, command string) (string, error) {
	return trySh(ctx, "nsenter -t %d -m -n chroot %s %s", r.pid, r.root, command)
}

// TestTwoNodesAndThePlugin tests a cluster without virtual machines. Hosts and
// containers are network namespaces. The hosts run the complete image, and the test
// calls the plugin like Docker.
func TestTwoNodesAndThePlugin(t *testing.T) {
	startCluster(t)
	var nodes []running
	for _, host := range []string{"h1", "h2"} {
		address := "10.99.0." + host[1:]
		addHost(t, host, address)
		nodes = append(nodes, startNode(t, host, address))
	}
	for _, n := range nodes {
		eventually(t, 2*time.Minute, "calico-node on "+n.host, func() error {
			out, err := n.exec(t.Context(), "calico-node -felix-ready -bird-ready")
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	createPool(t, "firstboot", "10.213.0.0/16")
	runCalicoctl(t, `{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: firstboot},
spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}}`, "create", "-f", "-")
	one, two := startPlugin(t, "h1"), startPlugin(t, "h2")
	one.createNetwork("net1")
	c1 := one.runContainer("c1", "net1", "firstboot", "1111111111111111")
	c2 := two.runContainer("c2", "net1", "firstboot", "2222222222222222")
	pings(t, nodes, "c1", c2)
	pings(t, nodes, "c2", c1)
	if all := routes(t, nodes); strings.Count(all, "proto bird") < 2 {
		t.Errorf("want routes of bird on both hosts:\n%s", all)
	}
}

// pings waits until a ping from a container's namespace to an address is answered.
func pings(t *testing.T, nodes []running, from, to string) {
	t.Helper()
	busybox := filepath.Join(nodes[0].root, "usr/bin/busybox")
	eventually(t, time.Minute, "a ping from "+from+" to "+to, func() error {
		out, err := trySh(t.Context(), "ip netns exec %s %s ping -c1 -W1 %s", from, busybox, strings.TrimSuffix(to, "/32"))
		if err != nil {
			return fmt.Errorf("%w: %s\n%s", err, out, routes(t, nodes))
		}
		return nil
	})
}

func routes(t *testing.T, nodes []running) string {
	var all strings.Builder
	for _, n := range nodes {
		out, _ := trySh(t.Context(), "ip -n %s route", n.host)
		fmt.Fprintf(&all, "%s:\n%s\n", n.host, out)
	}
	return all.String()
}
