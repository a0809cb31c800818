//go:build lab

package scenarios

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

// rebootTimeout limits the time from a boot until status exits with 0. TCG needs
// three minutes on a busy machine.
const rebootTimeout = 10 * time.Minute

// cloneEndpoint is Docker's ID of the endpoint of a clone of host 1 with the same
// host name.
var cloneEndpoint = strings.Repeat("c1", 32)

// powerCutWithContainers cuts the power of a host with three containers twice.
// Docker never makes the plugin delete their endpoints.
func (x *failures) powerCutWithContainers(t *testing.T) {
	ctx := labtest.Context(t)
	const names = "stale-1 stale-2 stale-3"
	for name := range strings.FieldsSeq(names) {
		_, err := x.one.StartContainer(ctx, name, "--restart=always")
		labtest.NoError(t, err)
	}
	before := endpoints(t, x.two)
	if len(before) == 0 {
		t.Fatalf("%s has no endpoint that could be removed by mistake", x.two.Name)
	}
	own := endpoints(t, x.one)[0]
	key := lab.EndpointKeys + x.one.Name + "/" + x.one.Name + "-libnetwork-libnetwork-"
	value := etcdKeys(t, x.l, key+own)
	_, value, _ = strings.Cut(strings.TrimSpace(value), " ")
	put(t, x.l, key+cloneEndpoint, strings.ReplaceAll(strings.ReplaceAll(value, own, cloneEndpoint), own[:11], cloneEndpoint[:11]))
	for cut, stale := range []int{4, 3} { // the first time also the container one, which is not started again
		// Docker does not sync the state of a container: one that the disk has as
		// "created" does not start again.
		labtest.Run(t, x.one, 0, "sync")
		labtest.NoError(t, x.one.Kill())
		labtest.NoError(t, x.one.Boot(ctx))
		// Docker, calico-node and the containers need some time after a boot.
		labtest.NoError(t, x.one.WaitUp(ctx))
		labtest.NoError(t, x.one.Wait(labtest.Within(t, rebootTimeout), "firstboot status to exit with 0", func(ctx context.Context) error {
			_, err := x.one.Output(ctx, "firstboot status")
			return err
		}))
		labtest.NoError(t, x.one.WaitRunning(labtest.Within(t, 5*time.Minute), names))
		t.Logf("after power cut %d: %s", cut+1, labtest.Run(t, x.one, 0, "journalctl -b -u docker --no-pager | grep wait-plugin -A2; journalctl -b -u docker --no-pager | grep -i stale"))
		labtest.Contains(t, labtest.Run(t, x.one, 0, "journalctl -b -u docker --no-pager"), fmt.Sprintf("removed stale endpoints: %d, ", stale))
		want, err := x.one.EndpointsOf(ctx, names)
		labtest.NoError(t, err)
		want = append(want, cloneEndpoint)
		slices.Sort(want)
		labtest.Equal(t, "the endpoints of "+x.one.Name+" and its clone", strings.Join(want, "\n"), strings.Join(endpoints(t, x.one), "\n"))
		labtest.Equal(t, "the endpoints of "+x.two.Name, strings.Join(before, "\n"), strings.Join(endpoints(t, x.two), "\n"))
	}
	calicoctl(t, x.l, "", "delete", "workloadendpoint", x.one.Name+"-libnetwork-libnetwork-"+cloneEndpoint, "--namespace="+x.one.Name)
	labtest.Run(t, x.one, 0, "docker rm -f "+names+" && docker start one")
}

// endpoints lists Docker's IDs of a host's endpoints in etcd, sorted.
func endpoints(t *testing.T, h *lab.Host) []string {
	t.Helper()
	ids, err := h.Endpoints(labtest.Within(t, time.Minute))
	labtest.NoError(t, err)
	return ids
}

// put writes a key with etcd's JSON gateway.
func put(t *testing.T, l *lab.Lab, key, value string) {
	t.Helper()
	request, err := json.Marshal(map[string][]byte{"key": []byte(key), "value": []byte(value)})
	labtest.NoError(t, err)
	req, err := http.NewRequestWithContext(labtest.Within(t, time.Minute), http.MethodPost, l.Etcd.Endpoint+"/v3/kv/put", bytes.NewReader(request))
	labtest.NoError(t, err)
	client := l.Net.Client()
	defer client.CloseIdleConnections()
	answer, err := client.Do(req)
	labtest.NoError(t, err)
	defer answer.Body.Close()
	labtest.Equal(t, "etcd's status", http.StatusText(http.StatusOK), http.StatusText(answer.StatusCode))
}
