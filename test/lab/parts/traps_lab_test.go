//go:build lab

package parts

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	etcd "go.etcd.io/etcd/client/v3"
)

// These are the real plugin's traps, which the stand-in must have too: what
// firstboot does about them is not shown on anything milder.

const (
	annotation = "org.projectcalico.label.network.ID"
	cidr       = "10.213.0.0/16"
)

// onOneHost starts a cluster with a host h1, known to Calico, and a pool.
func onOneHost(t *testing.T, env ...string) plugin {
	t.Helper()
	startCluster(t)
	plugHost(t, "h1", "10.99.0.1")
	runCalicoctl(t, `{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: h1}, spec: {bgp: {ipv4Address: 10.99.0.1/24}}}`, "create", "-f", "-")
	createPool(t, "firstboot", cidr)
	return startPlugin(t, "h1", env...)
}

// poolInEtcd is the pool as it stands there: calicoctl would fill in defaults.
func poolInEtcd(t *testing.T) (annotations map[string]string, spec object) {
	t.Helper()
	client, err := etcd.New(etcd.Config{Endpoints: []string{etcdURL}, DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	got, err := client.Get(t.Context(), "/calico/resources/v3/projectcalico.org/ippools/firstboot")
	if err != nil || got.Count != 1 {
		t.Fatalf("the pool in etcd: %v, %v", got, err)
	}
	var pool struct {
		Metadata struct{ Annotations map[string]string }
		Spec     object
	}
	if err := json.Unmarshal(got.Kvs[0].Value, &pool); err != nil {
		t.Fatal(err)
	}
	return pool.Metadata.Annotations, pool.Spec
}

func TestTheAnswersOfThePlugin(t *testing.T) {
	p := onOneHost(t)
	for _, c := range []struct {
		which, method string
		want          object
	}{
		{"net", "Plugin.Activate", object{"Implements": []any{"NetworkDriver"}}},
		{"ipam", "Plugin.Activate", object{"Implements": []any{"IpamDriver"}}},
		{"net", "NetworkDriver.GetCapabilities", object{"Scope": "global", "ConnectivityScope": ""}},
		{"ipam", "IpamDriver.GetDefaultAddressSpaces", object{
			"LocalDefaultAddressSpace": "CalicoLocalAddressSpace", "GlobalDefaultAddressSpace": "CalicoGlobalAddressSpace",
		}},
	} {
		if diff := cmp.Diff(c.want, p.call(c.which, c.method, object{})); diff != "" {
			t.Errorf("%s: %s", c.method, diff)
		}
	}
	if said := p.refused("ipam", "IpamDriver.RequestPool", object{"Pool": "10.1.0.0/16"}); !strings.Contains(said, "must match the CIDR") {
		t.Errorf("a subnet without a pool: %s", said)
	}
	said := p.refused("net", "NetworkDriver.CreateNetwork", object{"NetworkID": "n", "Options": object{"com.docker.network.enable_ipv4": true}})
	if !strings.Contains(said, "does not support the flag --enable_ipv4") {
		t.Errorf("what Docker 28 asks for: %s", said)
	}
}

func TestThePluginBindsAndStripsThePool(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	annotations, spec := poolInEtcd(t)
	if annotations[annotation] != "net1" {
		t.Errorf("annotations are %v, want net1 bound", annotations)
	}
	if diff := cmp.Diff(object{"cidr": cidr, "natOutgoing": true, "ipipMode": "Never"}, spec); diff != "" {
		t.Errorf("the pool's fields after a network was created: %s", diff)
	}
	p.createEndpoint("net1", "firstboot", "1111111111111111")

	runCalicoctl(t, "", "patch", "ippool", "firstboot", "-p",
		`{"metadata":{"annotations":{"`+annotation+`":"net1"}},"spec":{"vxlanMode":"Never"}}`)
	annotations, spec = poolInEtcd(t)
	if annotations[annotation] != "net1" || spec["vxlanMode"] != "Never" || fmt.Sprint(spec["blockSize"]) != "26" {
		t.Errorf("after the cure: %v %v", annotations, spec)
	}
	p.createEndpoint("net1", "firstboot", "2222222222222222")

	p.createNetwork("net2")
	said := p.refused("net", "NetworkDriver.CreateEndpoint", object{
		"NetworkID": "net1", "EndpointID": "3333333333333333", "Interface": object{"Address": "10.213.0.9/32"},
	})
	if !strings.Contains(said, "net1") {
		t.Errorf("a second network did not steal the pool: %s", said)
	}
}

func TestThePluginMakesARestrictiveProfileOnlyWhereThereIsNone(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	p.createEndpoint("net1", "firstboot", "1111111111111111")
	if made := runCalicoctl(t, "", "get", "profile", "firstboot", "-o", "yaml"); !strings.Contains(made, "selector: has(firstboot)") {
		t.Errorf("the profile that the plugin made:\n%s", made)
	}
	runCalicoctl(t, `{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: firstboot}, spec: {ingress: [{action: Allow}]}}`, "replace", "-f", "-")
	p.createEndpoint("net1", "firstboot", "2222222222222222")
	if kept := runCalicoctl(t, "", "get", "profile", "firstboot", "-o", "yaml"); strings.Contains(kept, "has(firstboot)") {
		t.Errorf("the plugin changed a profile that was there:\n%s", kept)
	}
}

func TestThePluginTakesTheHostNameAsItIs(t *testing.T) {
	p := onOneHost(t, "HOSTNAME=H1")
	p.createNetwork("net1")
	if said := p.refused("ipam", "IpamDriver.RequestAddress", object{"PoolID": "firstboot"}); !strings.Contains(said, "H1") {
		t.Errorf("a name that is no node's: %s", said)
	}
}

func TestThePluginRecordsTheMACThatItMade(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	p.runContainer("c1", "net1", "firstboot", "1111111111111111")
	made := sh(t, "ip netns exec c1 cat /sys/class/net/cali0/address")
	recorded := func() string { return runCalicoctl(t, "", "get", "wep", "-A", "-o", "yaml") }
	if !strings.Contains(recorded(), "mac: "+made) {
		t.Errorf("the MAC is %s, recorded is\n%s", made, recorded())
	}
	sh(t, "ip -n c1 link set cali0 address 02:00:00:00:00:01") // as udevd does
	if !strings.Contains(recorded(), "mac: "+made) {
		t.Errorf("the record follows a change of the MAC:\n%s", recorded())
	}
}

func TestThePluginRoutesIPv6WhereTheHostHasIt(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	join := func(id string) string {
		p.createEndpoint("net1", "firstboot", id)
		return p.call("net", "NetworkDriver.Join", object{"NetworkID": "net1", "EndpointID": id})["GatewayIPv6"].(string)
	}
	if gateway := join("1111111111111111"); !strings.HasPrefix(gateway, "fe80:") {
		t.Errorf("with IPv6 on, the gateway is %q", gateway)
	}
	sh(t, "ip netns exec h1 sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'")
	if gateway := join("2222222222222222"); gateway != "" {
		t.Errorf("with IPv6 off, the gateway is %q", gateway)
	}
}

func TestTheSocketsSurviveThePlugin(t *testing.T) {
	p := onOneHost(t)
	sh(t, "kill $(ip netns pids h1)")
	eventually(t, time.Minute, "the end of the plugin", func() error {
		if _, err := p.try("net", "Plugin.Activate", nil); err == nil {
			return fmt.Errorf("it still answers")
		}
		return nil
	})
	for _, which := range []string{"net", "ipam"} {
		if _, err := os.Stat(p.socket(which)); err != nil {
			t.Errorf("the socket is gone: %v", err)
		}
	}
}

func TestWithoutEtcdThePluginEndsAfterTenSeconds(t *testing.T) {
	sockets := t.TempDir()
	cmd := exec.CommandContext(t.Context(), unpackedMinions(t), "--cnm", sockets+"/net.sock", "--ipam", sockets+"/ipam.sock")
	cmd.Env = []string{"ETCD_ENDPOINTS=http://127.0.0.1:1"}
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if took := time.Since(begin); err == nil || took < 8*time.Second || took > 20*time.Second {
		t.Errorf("it ended after %s: %v\n%s", took, err, out)
	}
	if left, _ := os.ReadDir(sockets); len(left) != 0 {
		t.Errorf("it left sockets: %v", left)
	}
}
