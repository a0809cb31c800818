//go:build lab

package parts

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// plugin is a running stand-in on a host of the test.
type plugin struct {
	t       *testing.T
	host    string
	sockets string
}

// startPlugin runs the program of the RPM in the host's network namespace, with the
// host's name and these environment variables.
func startPlugin(t *testing.T, host string, env ...string) plugin {
	t.Helper()
	p := plugin{t, host, t.TempDir()}
	start(t, "eru-minions on "+host, append(env, "PATH="+os.Getenv("PATH"), "ETCD_ENDPOINTS="+etcdURL,
		"CALICO_CNM="+p.socket("net"), "CALICO_IPAM="+p.socket("ipam")),
		"ip", "netns", "exec", host, "unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, host, installMinions(t))
	eventually(t, time.Minute, "the plugin's sockets", func() error {
		_, err := p.try("net", "Plugin.Activate", nil)
		return err
	})
	return p
}

// installMinions installs the package with rpm below a temporary root and returns
// the program's path. On Debian rpm's database is empty, hence --nodeps.
func installMinions(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sh(t, "rpm --root %s -i --nodeps --noscripts %s", dir, builtParts(t).MinionsRPM)
	return filepath.Join(dir, "usr/bin/eru-minions")
}

func (p plugin) socket(which string) string { return filepath.Join(p.sockets, which+".sock") }

type object = map[string]any

// try calls the plugin like Docker.
func (p plugin) try(which, method string, request object) (object, error) {
	return trySocket(p.socket(which), method, request)
}

func socketClient(path string) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}

func trySocket(path, method string, request object) (object, error) {
	client := socketClient(path)
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	answer, err := client.Post("http://plugin/"+method, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var decoded object
	return decoded, json.NewDecoder(answer.Body).Decode(&decoded)
}

// call is like try, but the call must succeed.
func (p plugin) call(which, method string, request object) object {
	p.t.Helper()
	answer, err := p.try(which, method, request)
	if err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	if message, failed := answer["Err"]; failed {
		p.t.Fatalf("%s: %v", method, message)
	}
	return answer
}

// refused is like try, but the plugin must return an error. It returns the message.
func (p plugin) refused(which, method string, request object) string {
	p.t.Helper()
	answer, err := p.try(which, method, request)
	message, _ := answer["Err"].(string)
	if err != nil || message == "" {
		p.t.Fatalf("%s was not refused: %v %v", method, answer, err)
	}
	return message
}

func (p plugin) createNetwork(id string) {
	p.t.Helper()
	pool := p.call("ipam", "IpamDriver.RequestPool", object{"Pool": cidr})
	p.call("net", "NetworkDriver.CreateNetwork", object{
		"NetworkID": id, "Options": object{"com.docker.network.enable_ipv6": false, "com.docker.network.generic": object{}},
		"IPv4Data": []object{{"AddressSpace": "CalicoGlobalAddressSpace", "Pool": pool["Pool"], "Gateway": "0.0.0.0/0"}},
	})
}

// createEndpoint makes the calls that Docker makes before it joins a container.
func (p plugin) createEndpoint(network, pool, id string) (address string) {
	p.t.Helper()
	address = p.call("ipam", "IpamDriver.RequestAddress", object{"PoolID": pool})["Address"].(string)
	p.call("net", "NetworkDriver.CreateEndpoint", object{
		"NetworkID": network, "EndpointID": id, "Interface": object{"Address": address, "MacAddress": ""},
	})
	return address
}

// runContainer creates a network namespace for a container and joins it to the
// network, like libnetwork. It returns the container's address.
func (p plugin) runContainer(name, network, pool, id string) (address string) {
	p.t.Helper()
	address = p.createEndpoint(network, pool, id)
	joined := p.call("net", "NetworkDriver.Join", object{"NetworkID": network, "EndpointID": id, "SandboxKey": "/x"})
	gateway := joined["Gateway"].(string)
	source := joined["InterfaceName"].(object)["SrcName"].(string)
	sh(p.t, `ip netns add %[1]s
ip -n %[2]s link set %[3]s down
ip -n %[2]s link set %[3]s netns %[1]s name cali0
ip -n %[1]s addr add %[4]s dev cali0
ip -n %[1]s link set lo up
ip -n %[1]s link set cali0 up
ip -n %[1]s route add %[5]s dev cali0
ip -n %[1]s route add default via %[5]s`, name, p.host, source, address, gateway)
	return address
}
