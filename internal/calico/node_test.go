package calico

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/secret"
)

func TestNodeArguments(t *testing.T) {
	c := config.Default()
	c.Etcd.Endpoints = []string{"http://10.0.0.1:2379", "http://10.0.0.2:2379"}
	c.Node.ASNumber, c.Node.Image = 65001, "r.example/node:v3.23.0"
	c.Node.Environment = map[string]secret.Value{"FELIX_X": "y"}
	got := Node{Config: c, Name: "host1", Address: netip.MustParseAddr("10.0.0.7")}.Arguments()
	want := strings.Fields("--net=host --privileged --name=calico-node --rm -e AS=65001 -e CALICO_NETWORKING_BACKEND=bird -e ETCD_DISCOVERY_SRV=" +
		" -e ETCD_ENDPOINTS=http://10.0.0.1:2379,http://10.0.0.2:2379 -e FELIX_HEALTHENABLED=true -e IP=10.0.0.7 -e NODENAME=host1 -e NO_DEFAULT_POOLS=true --env-file=/var/lib/firstboot/calico-node.env" +
		" -v /var/log/calico:/var/log/calico -v /var/run/calico:/var/run/calico -v /var/lib/calico:/var/lib/calico -v /lib/modules:/lib/modules -v /run:/run r.example/node:v3.23.0")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
