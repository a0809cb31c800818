package stages_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// fakeSystem stands in for everything of a machine except its files: systemd,
// Docker, the plugin, calico-node, the network and the commands.
type fakeSystem struct {
	t       testing.TB
	root    string
	name    string
	cluster *fakeCluster
	systemd *fakeSystemd
	docker  *fakeDocker
	node    *fakeNode
	net     *fakeNetwork

	rpmMu            sync.Mutex // one rpm at a time
	mu               sync.Mutex
	commands         []string        // every command that was run
	modules          map[string]bool // that modprobe finds
	installed        string          // NAME-VERSION-RELEASE of eru-minions in rpm's database
	sigMD5           string          // and the digest of its header and files
	rpmWithoutDigest bool            // packages have no SIGMD5
	rpmFails         string          // the error of rpm -U; "": it installs
	rpmVerifies      *CommandResult  // what rpm -V does; nil: it compares
	rpms             int             // the number of rpm transactions so far
	forward          string          // the output of iptables -S FORWARD
	runc             string          // the output of runc --version
	managerPrints    string          // the output of NetworkManager --print-config
	deleteFails      string          // the error of the plugin's DeleteEndpoint
	plugin           bool            // eru-minions runs
	conf             string          // the configuration that eru-minions has read
	linkRead         bool            // udevd has read the .link file
	adapterSocket    net.Listener    // of firstboot-adapter.socket
	stopAdapter      func()          // nil: the adapter does not run
	calicoctl        func(host.Command) CommandResult

	commandFails map[string]CommandResult          // results by the program's name
	realRPM      func(args []string) CommandResult // runs the real rpm, if not nil
}

// newFakeSystem makes a system whose root has a short path, because the path of
// a socket is limited to 107 bytes. The root is in memory if possible: every
// write is synced, which is slow on a disk.
func newFakeSystem(t testing.TB, f *fakeCluster, name string) *fakeSystem {
	t.Helper()
	root, err := os.MkdirTemp("/dev/shm", "fb")
	if err != nil {
		root, err = os.MkdirTemp("", "fb")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	w := &fakeSystem{
		t: t, root: root, name: name, cluster: f, modules: map[string]bool{},
		forward: "-P FORWARD ACCEPT\n", net: bareNetwork(f.addHost()),
	}
	for _, m := range []string{"nf_conntrack", "ip_tables", "ip6_tables", "xt_set", "ipip"} {
		w.modules[m] = true
	}
	w.docker = newFakeDocker(w)
	w.node = &fakeNode{w: w, protocols: noPeers}
	w.calicoctl = w.fakeCalicoctl
	w.systemd = &fakeSystemd{root: root, units: map[string]*unit{}, programs: map[string]program{
		units.Docker:     {start: w.docker.begin, stop: w.docker.end, load: w.docker.reload},
		units.Minions:    {start: w.beginPlugin, stop: w.endPlugin},
		units.CalicoNode: {start: w.node.begin, stop: w.node.end},
		udevd:            {start: w.readLink},

		units.AdapterSocket:  {start: w.openAdapter, stop: w.closeAdapter},
		units.AdapterService: {start: w.beginAdapter, stop: w.endAdapter},
	}}
	return w
}

// start boots the machine: systemd, udevd and Docker run.
func (w *fakeSystem) start() {
	w.t.Helper()
	for _, dir := range []string{"/run/docker/plugins", "/tmp", "/var/run/calico"} {
		if err := os.MkdirAll(filepath.Join(w.root, dir), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	serveFakes(w.t, w)
	w.docker.serve()
	w.node.serve()
	for _, name := range []string{udevd, units.Docker} {
		w.boot(name)
		w.systemd.startedEarlier(name)
	}
}

// readLink makes udevd read its configuration.
func (w *fakeSystem) readLink(string) error {
	w.linkRead = fileExists(w.file("/etc/systemd/network/10-calico.link"))
	return nil
}

// boot starts a unit as systemd does at boot.
func (w *fakeSystem) boot(name string) {
	w.t.Helper()
	if err := w.systemd.job("start", name); err != nil {
		w.t.Fatal(err)
	}
}

// fakeNetwork is the machine's network as the kernel reports it.
type fakeNetwork struct {
	addresses  []host.Address
	routes     []host.Route
	listening  map[netip.AddrPort]bool
	unresolved bool
	noRoute    bool
	source     netip.Addr        // the source address for etcd; zero: eth0's
	free       map[string]uint64 // free bytes by path

}

// bareNetwork returns the network of the nth host, whose eth0 has an address of
// 10.0.0.0/24.
func bareNetwork(n int) *fakeNetwork {
	eth0 := netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)})
	return &fakeNetwork{
		addresses: []host.Address{
			newAddress("lo", "127.0.0.1/8"), newAddress("lo", "::1/128"),
			newAddress("eth0", eth0.String()+"/24"), newAddress("eth0", "fe80::1/64"),
			newAddress("docker0", "172.17.0.1/16"),
		},
		routes: []host.Route{
			newRoute("0.0.0.0/0", "10.0.0.254", "eth0", 16),
			newRoute("10.0.0.0/24", "", "eth0", host.ProtocolKernel),
		},
		listening: map[netip.AddrPort]bool{}, free: map[string]uint64{},
	}
}

func (n *fakeNetwork) add(name, prefix string) {
	n.addresses = append(n.addresses, newAddress(name, prefix))
}

func newAddress(name, prefix string) host.Address {
	return host.Address{Interface: name, Kind: kindOf(name), Prefix: netip.MustParsePrefix(prefix)}
}

// kindOf returns the kind of an interface of the tests by the usual meaning of
// its name.
func kindOf(name string) string {
	for prefix, kind := range map[string]string{"docker": "bridge", "br": "bridge", "cali": "veth", "tunl": "ipip", "vxlan": "vxlan", "wg": "wireguard"} {
		if strings.HasPrefix(name, prefix) {
			return kind
		}
	}
	return "device"
}

// newRoute returns a route of the main table; without a gateway its network is on
// the link.
func newRoute(destination, gateway, name string, protocol int) host.Route {
	hop := host.Hop{Interface: name, Kind: kindOf(name)}
	if gateway != "" {
		hop.Gateway = netip.MustParseAddr(gateway)
	}
	return host.Route{Destination: netip.MustParsePrefix(destination), Type: host.RouteUnicast, Table: 254, Protocol: protocol, Hops: []host.Hop{hop}}
}

// routeTo returns the most specific route to an address.
func (n *fakeNetwork) routeTo(to netip.Addr) host.Route {
	var best host.Route
	for _, r := range n.routes {
		if r.Destination.Contains(to) && (best.Type == "" || r.Destination.Bits() > best.Destination.Bits()) {
			best = r
		}
	}
	return best
}

func (n *fakeNetwork) eth0() netip.Addr { return n.addresses[2].Prefix.Addr() }

// sourceTo returns eth0's address for every destination, even for the tests' etcd
// on loopback.
func (n *fakeNetwork) sourceTo(to netip.Addr) (netip.Addr, error) {
	if n.noRoute {
		return netip.Addr{}, fmt.Errorf("no route to %s: network is unreachable", to)
	}
	if n.source.IsValid() {
		return n.source, nil
	}
	return n.eth0(), nil
}

func (n *fakeNetwork) resolve(name string) ([]netip.Addr, error) {
	if n.unresolved {
		return nil, fmt.Errorf("lookup %s: no such host", name)
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

func (n *fakeNetwork) freeAt(path string) uint64 {
	if free, ok := n.free[path]; ok {
		return free
	}
	return 10 << 30
}

func (w *fakeSystem) file(path string) string { return filepath.Join(w.root, path) }

// runCommand runs a command of the machine.
func (w *fakeSystem) runCommand(c host.Command) CommandResult {
	w.mu.Lock()
	w.commands = append(w.commands, c.String())
	w.mu.Unlock()
	if failed, fails := w.commandFails[filepath.Base(c.Name)]; fails {
		return failed
	}
	switch filepath.Base(c.Name) {
	case "modprobe":
		return w.modprobe(c.Args)
	case "rpm":
		return w.rpm(c.Args)
	case "udevadm":
		_ = w.readLink("")
		return CommandResult{}
	case "NetworkManager":
		return CommandResult{Stdout: w.managerPrints}
	case "iptables":
		return CommandResult{Stdout: w.forward}
	case "runc":
		return CommandResult{Stdout: w.runc}
	case "dockerd":
		return CommandResult{Stdout: "Docker version " + w.docker.version + ", build 297e128\n"}
	case "calicoctl", trial:
		if slices.Contains(c.Args, "version") {
			return execute(w.file(c.Name), c.Args)
		}
		return w.calicoctl(c)
	}
	return CommandResult{Exit: -1, Stderr: c.Name + ": no such program"}
}

// trial is the file name of a new calicoctl until it replaces the installed one.
const trial = ".calicoctl.firstboot"

// execute runs a real program.
func execute(path string, args []string) CommandResult {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	var cmd *exec.Cmd
	err := error(syscall.ETXTBSY)
	for errors.Is(err, syscall.ETXTBSY) && ctx.Err() == nil { // as the real executor does
		cmd = exec.CommandContext(ctx, path, args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		err = cmd.Run()
	}
	ran := CommandResult{Stdout: out.String(), Stderr: errs.String(), Exit: cmd.ProcessState.ExitCode()}
	if err != nil && ran.Exit == -1 {
		ran.Stderr = err.Error()
	}
	return ran
}

func (w *fakeSystem) modprobe(args []string) CommandResult {
	name := args[len(args)-1]
	if !w.modules[name] {
		return CommandResult{Exit: 1, Stderr: "modprobe: FATAL: Module " + name + " not found in directory /lib/modules/6.1.0"}
	}
	if slices.Contains(args, "--dry-run") {
		return CommandResult{}
	}
	if err := os.MkdirAll(w.file("/sys/module/"+name), 0o755); err != nil {
		return CommandResult{Exit: 1, Stderr: err.Error()}
	}
	if name == "nf_conntrack" {
		putFile(w.t, w.root, "/proc/sys/net/netfilter/nf_conntrack_max", "65536\n", 0o644)
	}
	return CommandResult{}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// calicoctlScript returns a script that prints what `calicoctl version` prints
// with a configuration that names no datastore.
func calicoctlScript(version string) string {
	return "#!/bin/sh\necho 'Client Version:    " + version + "'\necho 'Git commit:        9ee0b0dbc'\n" +
		"echo 'invalid datastore type: none' >&2\nexit 1\n"
}

// archivedID returns the ID of the image in an archive with these names, without
// its algorithm.
func archivedID(names []string) string { return fakeID(strings.Join(names, " ")) }

// manifestID is the ID of an archive's image in containerd's image store.
const manifestID = "sha256:abababababababababababababababababababababababababababababababab"

// imageArchive returns an archive like that of `docker save`, without layers.
func imageArchive(t testing.TB, names ...string) string {
	t.Helper()
	manifest, err := json.Marshal([]map[string]any{{"Config": archivedID(names) + ".json", "RepoTags": names, "Layers": []string{}}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"config.json", []byte(`{"architecture":"amd64"}`)},
		{"index.json", []byte(`{"manifests":[{"digest":"` + manifestID + `"}]}`)},
		{"manifest.json", manifest},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
