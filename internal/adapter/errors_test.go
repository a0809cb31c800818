package adapter

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestErrors verifies what an operator reads if a call fails: what failed, why, and
// what to type.
func TestErrors(t *testing.T) {
	endpoint := `{"NetworkID":"` + dockerNetwork + `","EndpointID":"` + dockerEndpoint + `","Interface":{"Address":"10.213.0.2/16"}}`
	network := func(fields string) string {
		return `{"NetworkID":"` + dockerNetwork + `","IPv4Data":[{"Pool":"10.213.0.0/16","Gateway":"0.0.0.0/0"}]` + fields + `}`
	}
	up := answers(http.StatusOK, "{}")
	for name, c := range map[string]struct {
		file       string // adapter.json; "" for a good one
		call, body string
		plugin     http.HandlerFunc // nil: does not listen
		linkError  error
		want       []string
	}{
		"no network yet": {"-", "CreateEndpoint", endpoint, up, nil,
			[]string{"cannot connect the container to its network: the Calico network of this host is not set up yet", Path, "run: firstboot status"}},
		"no network yet, create": {"-", "CreateNetwork", network(""), up, nil,
			[]string{"cannot create the network: ", "not set up yet", "run: firstboot status"}},
		"damaged file": {`{"schema":1,`, "CreateEndpoint", endpoint, up, nil,
			[]string{Path + " is damaged: unexpected EOF", "run: firstboot run --force"}},
		"plugin stopped": {"", "CreateEndpoint", endpoint, nil, nil,
			[]string{"cannot connect the container to its network: the network plugin eru-minions does not run (" + PluginSocket + ")", "it needs etcd", "run: systemctl status eru-minions"}},
		"plugin hangs": {"", "Join", endpoint, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, nil,
			[]string{"eru-minions did not answer for", "journalctl -u eru-minions"}},
		"plugin dies": {"", "Join", endpoint, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil,
			[]string{"the call of the network plugin eru-minions failed: ", "systemctl status eru-minions, then the docker command again"}},
		"long answer": {"", "EndpointOperInfo", endpoint, answers(http.StatusOK, strings.Repeat("x", maxBody+1)), nil,
			[]string{"cannot pass NetworkDriver.EndpointOperInfo to the network plugin", "its answer is larger than 1048576 bytes"}},
		"broken answer": {"", "Join", endpoint, answers(http.StatusOK, "{"), nil,
			[]string{"cannot understand the answer of eru-minions", "systemctl status eru-minions"}},
		"empty request": {"", "CreateEndpoint", "", up, nil,
			[]string{"Docker's request is empty", "run the docker command again"}},
		"blank request": {"", "Leave", " \n", up, nil, []string{"Docker's request is empty"}},
		"half a request": {"", "Leave", `{"NetworkID":"`, up, nil,
			[]string{"cannot disconnect the container from its network: Docker's request cannot be read", "run the docker command again"}},
		"null":         {"", "Join", "null", up, nil, []string{"null is not an object"}},
		"wrong type":   {"", "DeleteEndpoint", `{"NetworkID":7}`, up, nil, []string{"Docker's request cannot be read"}},
		"two requests": {"", "FreeNetwork", "{}{}", up, nil, []string{"Docker's request cannot be read"}},
		"long request": {"", "Unknown", strings.Repeat("x", maxBody+1), up, nil, []string{"larger than 1048576 bytes", "remove labels"}},
		"link": {"", "Leave", endpoint, up, errors.New("cannot remove the interface calic0ffee01234: device busy"),
			[]string{"device busy; run: ip link delete calic0ffee01234"}},
		"endpoint ID": {"", "Leave", `{"EndpointID":"../../etc/x"}`, up, nil, []string{`"../../etc/x" is not an endpoint ID`}},
		"internal": {"", "CreateNetwork", network(`,"Options":{"com.docker.network.internal":true}`), up, nil,
			[]string{"cannot be internal", "run: docker network create --driver calico --ipam-driver calico-ipam --subnet 10.213.0.0/16 NAME"}},
		"IPv6": {"", "CreateNetwork", network(`,"IPv6Data":[{"Pool":"fd00::/64"}]`), up, nil, []string{"no IPv6 addresses", "run: docker network create"}},
		"Docker's IPAM": {"", "CreateNetwork", strings.Replace(network(""), "0.0.0.0/0", "10.213.0.1/16", 1), up, nil,
			[]string{"the gateway 10.213.0.1 is not from calico-ipam", "--ipam-driver calico-ipam"}},
		"two subnets": {"", "CreateNetwork", strings.Replace(network(""), "}]", `},{"Pool":"10.99.0.0/16"}]`, 1), up, nil, []string{"one subnet"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.setUp(t)
			m.limit(300*time.Millisecond, 600*time.Millisecond)
			m.links.err = c.linkError
			if c.file == "-" {
				os.Remove(filepath.Join(m.Root(), Path))
			} else if c.file != "" {
				if err := m.WriteFile(Path, []byte(c.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p := &plugin{}
			if c.plugin != nil {
				p = m.startPlugin(t, c.plugin)
			}
			w := m.post("/NetworkDriver."+c.call, c.body)
			var answer struct{ Err string }
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusInternalServerError || w.Header().Get("Content-Type") != contentType {
				t.Fatalf("%v: %d %v\n%s", err, w.Code, w.Header(), w.Body)
			}
			for _, words := range c.want {
				if !strings.Contains(answer.Err, words) {
					t.Errorf("missing %q in: %s", words, answer.Err)
				}
			}
			if m.logged() != answer.Err {
				t.Errorf("logged: %s\nanswer: %s", m.logged(), answer.Err)
			}
			if c.call == "CreateNetwork" && len(p.called()) > 0 {
				t.Errorf("the plugin was called with %q", p.called())
			}
		})
	}
}
