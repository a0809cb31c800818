//go:build lab

package parts

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	etcd "go.etcd.io/etcd/client/v3"
)

// These tests check that the stand-in has the same faults as the real plugin.
// Otherwise the lab would not show that firstboot handles them.

const (
	annotation = "org.projectcalico.label.network.ID"
	cidr       = "10.213.0.0/16"
)

// onOneHost starts a plugin in a cluster with one host, h1, and a pool.
func onOneHost(t *testing.T, env ...string) plugin {
	t.Helper()
	startCluster(t)
	addHost(t, "h1", "10.99.0.1")
	runCalicoctl(t, `{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: h1}, spec: {bgp: {ipv4Address: 10.99.0.1/24}}}`, "create", "-f", "-")
	createPool(t, "firstboot", cidr)
	return startPlugin(t, "h1", env...)
}

// poolInEtcd reads the pool from etcd, because calicoctl would add defaults.
func poolInEtcd(t *testing.T) (annotations map[string]string, spec object) {
	t.Helper()
	values := getFromEtcd(t, "/calico/resources/v3/projectcalico.org/ippools/firstboot")
	if len(values) != 1 {
		t.Fatal("the pool is not in etcd")
	}
	var pool struct {
		Metadata struct{ Annotations map[string]string }
		Spec     object
	}
	if err := json.Unmarshal(values[0], &pool); err != nil {
		t.Fatal(err)
	}
	return pool.Metadata.Annotations, pool.Spec
}

// getFromEtcd returns the value of a key, or nothing if it does not exist.
func getFromEtcd(t *testing.T, key string, options ...etcd.OpOption) [][]byte {
	t.Helper()
	client, err := etcd.New(etcd.Config{Endpoints: []string{etcdURL}, DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	got, err := client.Get(t.Context(), key, options...)
	if err != nil {
		t.Fatal(err)
	}
	var values [][]byte
	for _, kv := range got.Kvs {
		values = append(values, kv.Value)
	}
	return values
}

func TestPluginAnswers(t *testing.T) {
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
	if message := p.refused("ipam", "IpamDriver.RequestPool", object{"Pool": "10.1.0.0/16"}); !strings.Contains(message, "match any CIDR") {
		t.Errorf("a subnet without a pool: %s", message)
	}
	message := p.refused("net", "NetworkDriver.CreateNetwork", object{"NetworkID": "n", "Options": object{"com.docker.network.enable_ipv4": true}})
	if !strings.Contains(message, "does not support the flag --enable_ipv4") {
		t.Errorf("the option of Docker 28: %s", message)
	}
}

func TestPluginBindsThePoolAndRemovesNewFields(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	annotations, spec := poolInEtcd(t)
	if annotations[annotation] != "net1" {
		t.Errorf("annotations are %v, want the network net1", annotations)
	}
	if diff := cmp.Diff(object{"cidr": cidr, "natOutgoing": true, "ipipMode": "Never"}, spec); diff != "" {
		t.Errorf("the pool's fields after a network was created: %s", diff)
	}
	p.createEndpoint("net1", "firstboot", "1111111111111111")

	runCalicoctl(t, "", "patch", "ippool", "firstboot", "-p",
		`{"metadata":{"annotations":{"`+annotation+`":"net1"}},"spec":{"vxlanMode":"Never"}}`)
	annotations, spec = poolInEtcd(t)
	if annotations[annotation] != "net1" || spec["vxlanMode"] != "Never" || fmt.Sprint(spec["blockSize"]) != "26" {
		t.Errorf("after the repair: %v %v", annotations, spec)
	}
	p.createEndpoint("net1", "firstboot", "2222222222222222")

	p.createNetwork("net2")
	message := p.refused("net", "NetworkDriver.CreateEndpoint", object{
		"NetworkID": "net1", "EndpointID": "3333333333333333", "Interface": object{"Address": "10.213.0.9/32"},
	})
	if !strings.Contains(message, "must match the CIDR of a configured Calico IP Pool") {
		t.Errorf("a second network with the same CIDR: %s", message)
	}
}

func TestPluginCreatesARestrictiveProfileIfNoneExists(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	p.createEndpoint("net1", "firstboot", "1111111111111111")
	if made := runCalicoctl(t, "", "get", "profile", "firstboot", "-o", "yaml"); !strings.Contains(made, "selector: has(firstboot)") {
		t.Errorf("the profile that the plugin created:\n%s", made)
	}
	runCalicoctl(t, `{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: firstboot}, spec: {ingress: [{action: Allow}]}}`, "replace", "-f", "-")
	p.createEndpoint("net1", "firstboot", "2222222222222222")
	if kept := runCalicoctl(t, "", "get", "profile", "firstboot", "-o", "yaml"); strings.Contains(kept, "has(firstboot)") {
		t.Errorf("the plugin changed an existing profile:\n%s", kept)
	}
}

func TestPluginKeepsTheCaseOfTheHostName(t *testing.T) {
	p := onOneHost(t, "HOSTNAME=H1")
	p.createNetwork("net1")
	if message := p.refused("ipam", "IpamDriver.RequestAddress", object{"PoolID": "firstboot"}); !strings.Contains(message, "H1") {
		t.Errorf("a host name that differs from the node name: %s", message)
	}
}

func TestPluginRecordsTheFirstMAC(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	p.runContainer("c1", "net1", "firstboot", "1111111111111111")
	made := sh(t, "ip netns exec c1 cat /sys/class/net/cali0/address")
	recorded := func() string { return runCalicoctl(t, "", "get", "wep", "-A", "-o", "yaml") }
	if !strings.Contains(recorded(), "mac: "+made) {
		t.Errorf("the MAC is %s, the record is\n%s", made, recorded())
	}
	sh(t, "ip -n c1 link set cali0 address 02:00:00:00:00:01") // like udevd
	if !strings.Contains(recorded(), "mac: "+made) {
		t.Errorf("the record changed with the MAC:\n%s", recorded())
	}
}

func TestPluginRoutesIPv6IfTheHostHasIt(t *testing.T) {
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

func TestSocketsRemainAfterThePluginIsKilled(t *testing.T) {
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
			t.Errorf("the socket does not exist: %v", err)
		}
	}
}
