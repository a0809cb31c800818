//go:build lab

package parts

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	etcd "go.etcd.io/etcd/client/v3"
)

// TestNameOfThePluginsSocket: an absolute path in CALICO_CNM is the socket itself,
// another name is that of a socket in Docker's directory.
func TestNameOfThePluginsSocket(t *testing.T) {
	startCluster(t)
	for cnm, socket := range map[string]string{
		"":                           "/run/docker/plugins/calico.sock",
		"other":                      "/run/docker/plugins/other.sock",
		"/run/firstboot/eru-minions": "/run/firstboot/eru-minions",
	} {
		t.Run("CALICO_CNM="+cnm, func(t *testing.T) {
			// In a /run of its own.
			pid := start(t, "eru-minions", []string{"PATH=" + os.Getenv("PATH"), "ETCD_ENDPOINTS=" + etcdURL, "CALICO_CNM=" + cnm},
				"unshare", "-m", "sh", "-euc", `mount -t tmpfs tmpfs /run; mkdir /run/firstboot; exec "$0"`, installMinions(t))
			run := fmt.Sprintf("/proc/%d/root", pid)
			eventually(t, time.Minute, socket, func() error {
				_, err := trySocket(run+socket, "Plugin.Activate", nil)
				return err
			})
			names, err := filepath.Glob(run + "/run/docker/plugins/*")
			want := 1 // calico-ipam.sock
			if strings.HasPrefix(socket, "/run/docker") {
				want = 2
			}
			if err != nil || len(names) != want {
				t.Errorf("Docker's directory contains %q (%v)", names, err)
			}
		})
	}
}

// TestOnlyCreateEndpointReadsTheNetworkID: the adapter does not know it for every
// call, and deletes endpoints by their ID alone.
func TestOnlyCreateEndpointReadsTheNetworkID(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	p.createEndpoint("net1", "firstboot", oneID)
	for _, method := range []string{"Join", "EndpointOperInfo", "ProgramExternalConnectivity", "RevokeExternalConnectivity"} {
		p.call("net", "NetworkDriver."+method, object{"NetworkID": "unknown", "EndpointID": oneID})
	}
	p.call("net", "NetworkDriver.DeleteEndpoint", object{"EndpointID": oneID})
	message := p.refused("net", "NetworkDriver.CreateEndpoint", object{
		"NetworkID": "unknown", "EndpointID": twoID, "Interface": object{"Address": "10.213.0.9/32"},
	})
	if !strings.Contains(message, "must match the CIDR of a configured Calico IP Pool") {
		t.Errorf("CreateEndpoint: %s", message)
	}
	wantNoEndpoint(t)
}

// wantNoEndpoint fails the test if etcd has an endpoint.
func wantNoEndpoint(t *testing.T) {
	t.Helper()
	const prefix = "/calico/resources/v3/projectcalico.org/workloadendpoints/"
	for _, value := range getFromEtcd(t, prefix, etcd.WithPrefix()) {
		t.Errorf("etcd has the endpoint %s", value)
	}
}

// TestJoinAfterTheEndOfItsEndpointLeavesInterfaces of both ends on the host.
func TestJoinAfterTheEndOfItsEndpointLeavesInterfaces(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	p.createEndpoint("net1", "firstboot", oneID)
	p.call("net", "NetworkDriver.DeleteEndpoint", object{"EndpointID": oneID})
	if message := p.refused("net", "NetworkDriver.Join", object{"NetworkID": "net1", "EndpointID": oneID}); !strings.Contains(message, "resource does not exist") {
		t.Errorf("Join: %s", message)
	}
	for _, name := range []string{"cali11111111111", "temp11111111111"} {
		if !hasLink(t, name) {
			t.Errorf("%s does not exist", name)
		}
	}
	wantNoEndpoint(t)
}

// TestDeleteEndpointKeepsTheInterface, which Leave removes.
func TestDeleteEndpointKeepsTheInterface(t *testing.T) {
	p := onOneHost(t)
	p.createNetwork("net1")
	p.createEndpoint("net1", "firstboot", oneID)
	joined := p.call("net", "NetworkDriver.Join", object{"NetworkID": "net1", "EndpointID": oneID})
	routes := fmt.Sprint(joined["StaticRoutes"])
	if gateway, _ := joined["GatewayIPv6"].(string); gateway == "" || !strings.Contains(routes, gateway+"/128") {
		t.Errorf("Join routes %s, the gateway is %q", routes, gateway)
	}
	p.call("net", "NetworkDriver.DeleteEndpoint", object{"EndpointID": oneID})
	if !hasLink(t, "cali11111111111") {
		t.Error("the interface does not exist")
	}
}

// TestErrorsOfThePlugin have the status 500 and the field Err.
func TestErrorsOfThePlugin(t *testing.T) {
	p := onOneHost(t)
	answer, err := socketClient(p.socket("net")).Post("http://plugin/NetworkDriver.DeleteEndpoint", "application/json", strings.NewReader(`{"EndpointID":"`+oneID+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusInternalServerError {
		t.Errorf("the status is %s", answer.Status)
	}
}
