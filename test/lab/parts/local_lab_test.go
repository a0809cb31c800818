//go:build lab

package parts

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab/certs"
)

// These tests check what firstboot's adapter and tunnel rely on.

const (
	oneID = "1111111111111111111111111111111111111111111111111111111111111111"
	twoID = "2222222222222222222222222222222222222222222222222222222222222222"
)

// fakeDocker is Docker's API on a Unix socket, with one container per endpoint.
type fakeDocker struct {
	socket     string
	minimum    string // oldest version of the API that it serves
	containers []object
}

func startFakeDocker(t *testing.T, minimum string, containers ...object) *fakeDocker {
	t.Helper()
	d := &fakeDocker{socket: filepath.Join(t.TempDir(), "docker.sock"), minimum: minimum, containers: containers}
	listener, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: d}
	t.Cleanup(func() { server.Close() })
	go server.Serve(listener)
	return d
}

// ServeHTTP answers only the request that the plugin makes.
func (d *fakeDocker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version, isList := strings.CutSuffix(r.URL.Path, "/containers/json")
	version = strings.TrimPrefix(version, "/v")
	switch {
	case !isList:
		w.WriteHeader(http.StatusNotFound)
	case version < d.minimum: // all are 1.NN
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(object{"message": fmt.Sprintf("client version %s is too old. Minimum supported API version is %s", version, d.minimum)})
	default:
		json.NewEncoder(w).Encode(d.containers)
	}
}

func container(endpointID, address string, labels object) object {
	return object{
		"Id": "c" + endpointID[:8], "Labels": labels,
		"NetworkSettings": object{"Networks": object{"firstboot": object{
			"NetworkID": "net1", "EndpointID": endpointID, "IPAddress": address,
		}}},
	}
}

func hasLink(t *testing.T, name string) bool {
	t.Helper()
	_, err := trySh(t.Context(), "ip -n h1 link show %s", name)
	return err == nil
}

func TestLeaveFindsTheContainerByAnOldVersionOfDockersAPI(t *testing.T) {
	docker := startFakeDocker(t, "1.12", container(oneID, "10.213.0.1", nil))
	p := onOneHost(t, "DOCKER_HOST=unix://"+docker.socket)
	p.createNetwork("net1")
	for _, id := range []string{oneID, twoID} {
		p.createEndpoint("net1", "firstboot", id)
		p.call("net", "NetworkDriver.Join", object{"NetworkID": "net1", "EndpointID": id})
	}
	p.call("net", "NetworkDriver.Leave", object{"NetworkID": "net1", "EndpointID": oneID})
	if hasLink(t, "cali11111111111") {
		t.Error("the link still exists after Leave")
	}
	if message := p.refused("net", "NetworkDriver.Leave", object{"NetworkID": "net1", "EndpointID": twoID}); !strings.Contains(message, "find no container with endpintID = "+twoID) {
		t.Errorf("Leave of an endpoint that Docker does not list: %s", message)
	}
	docker.minimum = "1.44" // Docker 29
	if message := p.refused("net", "NetworkDriver.Leave", object{"NetworkID": "net1", "EndpointID": twoID}); !strings.Contains(message, "client version 1.38 is too old") {
		t.Errorf("Leave with a new Docker: %s", message)
	}
	if !hasLink(t, "cali22222222222") {
		t.Error("the link of a refused Leave no longer exists")
	}
}

func TestLeaveFailsOnANetworkToWhichNoPoolIsBound(t *testing.T) {
	docker := startFakeDocker(t, "1.12", container(oneID, "10.213.0.1", nil))
	p := onOneHost(t, "DOCKER_HOST=unix://"+docker.socket)
	p.createNetwork("net2") // Docker's network on this host is net1
	p.createEndpoint("net2", "firstboot", oneID)
	p.call("net", "NetworkDriver.Join", object{"NetworkID": "net2", "EndpointID": oneID})
	if message := p.refused("net", "NetworkDriver.Leave", object{"NetworkID": "net2", "EndpointID": oneID}); !strings.Contains(message, "IP Pool") {
		t.Errorf("Leave: %s", message)
	}
}

func TestLeaveReservesAFixedAddress(t *testing.T) {
	docker := startFakeDocker(t, "1.12")
	p := onOneHost(t, "DOCKER_HOST=unix://"+docker.socket)
	p.createNetwork("net1")
	address := strings.TrimSuffix(p.createEndpoint("net1", "firstboot", oneID), "/32")
	docker.containers = []object{container(oneID, address, object{"fixed-ip": "true"})}
	p.call("net", "NetworkDriver.Leave", object{"NetworkID": "net1", "EndpointID": oneID})
	key := "/barrel/pools/firstboot/addresses/" + address
	if !existsInEtcd(t, key) {
		t.Fatalf("%s does not exist", key)
	}
	p.call("ipam", "IpamDriver.ReleaseAddress", object{"PoolID": "firstboot", "Address": address})
	p.call("ipam", "IpamDriver.RequestAddress", object{"PoolID": "firstboot", "Address": address})
	if existsInEtcd(t, key) {
		t.Errorf("%s still exists after the address was requested", key)
	}
	p.call("ipam", "IpamDriver.ReleaseAddress", object{"PoolID": "firstboot", "Address": address})
	p.call("ipam", "IpamDriver.RequestAddress", object{"PoolID": "firstboot", "Address": address})
}

func existsInEtcd(t *testing.T, key string) bool {
	t.Helper()
	return len(getFromEtcd(t, key)) == 1
}

func TestDeleteEndpointOfAnOldID(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	p.createEndpoint("net1", "firstboot", oneID)
	p.call("net", "NetworkDriver.DeleteEndpoint", object{"EndpointID": oneID})
	if message := p.refused("net", "NetworkDriver.DeleteEndpoint", object{"EndpointID": oneID}); !strings.Contains(message, "resource does not exist") {
		t.Errorf("the second time: %s", message)
	}
}

// TestPluginExitsWithoutItsSocketsDirectory also checks that the names of the
// sockets come from the environment.
func TestPluginExitsWithoutItsSocketsDirectory(t *testing.T) {
	startCluster(t)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), installMinions(t))
	cmd.Env = []string{"ETCD_ENDPOINTS=" + etcdURL, "CALICO_CNM=" + dir + "/missing/net", "CALICO_IPAM=" + dir + "/ipam"}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), dir+"/missing/net") {
		t.Errorf("it did not fail because of the directory: %v\n%s", err, out)
	}
}

// TestPluginExitsAfterTenSecondsWithoutEtcd also checks that TLS does not help: one
// of the plugin's clients does not use it.
func TestPluginExitsAfterTenSecondsWithoutEtcd(t *testing.T) {
	startCluster(t)
	program := installMinions(t)
	for name, env := range map[string][]string{
		"nobody listens": {"ETCD_ENDPOINTS=http://127.0.0.1:1"},
		"TLS":            startEtcdWithTLS(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sockets := t.TempDir()
			cmd := exec.CommandContext(t.Context(), program, "--cnm", sockets+"/net.sock", "--ipam", sockets+"/ipam.sock")
			cmd.Env = env
			start := time.Now()
			out, err := cmd.CombinedOutput()
			if took := time.Since(start); err == nil || took < 8*time.Second || took > 20*time.Second {
				t.Errorf("it exited after %s: %v\n%s", took, err, out)
			}
			if left, _ := os.ReadDir(sockets); len(left) != 0 {
				t.Errorf("it left sockets: %v", left)
			}
		})
	}
}

// startEtcdWithTLS starts an etcd that requires client certificates. It returns
// the plugin's environment for it.
func startEtcdWithTLS(t *testing.T) []string {
	t.Helper()
	authority, err := certs.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files, err := authority.Issue("etcd", netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	const url, health = "https://127.0.0.1:2479", "http://127.0.0.1:2480"
	start(t, "etcd with TLS", os.Environ(), "etcd", "--data-dir", t.TempDir(), "--name", "tls",
		"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:0",
		"--listen-metrics-urls", health,
		"--client-cert-auth", "--trusted-ca-file", files.CA, "--cert-file", files.Cert, "--key-file", files.Key)
	waitHealthy(t, "etcd with TLS", health)
	return []string{"ETCD_ENDPOINTS=" + url, "ETCD_CA_CERT_FILE=" + files.CA, "ETCD_CERT_FILE=" + files.Cert, "ETCD_KEY_FILE=" + files.Key}
}
