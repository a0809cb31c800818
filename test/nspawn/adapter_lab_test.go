//go:build lab

package nspawn

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/units"
)

// testAdapter tests the adapter's units on a host with a local network, with the real
// Docker. A stand-in takes eru-minions' place: it has no etcd, and writes every call
// to /var/calls.
func testAdapter(t *testing.T, e *Environment) {
	files := []File{
		{Path: adapter.Path, Data: `{"schema":1,"networkID":"firstboot-pool","cidr":"10.213.0.0/16"}` + "\n", Mode: 0o600},
		{Path: "/usr/bin/eru-minions", Data: localPluginProgram, Mode: 0o755},
		{Path: "/usr/lib/systemd/system/eru-minions.service", Data: localPluginUnit},
		{Path: "/etc/docker/daemon.json", Data: `{"runtimes": {"nspawn": {"path": "/usr/bin/nspawn-runc"}}, "default-runtime": "nspawn"}`},
		{Path: "/usr/bin/nspawn-runc", Data: runcProgram, Mode: 0o755},
	}
	for _, f := range units.DropIns() {
		files = append(files, File{Path: f.Path, Data: string(f.Data)})
	}
	enabled := with(units.EnabledByRun(), map[string]string{"eru-minions.service": "multi-user.target"})
	h := bootHost(t, e, Options{Enabled: enabled, Files: files, Without: withoutCloudInit()})
	h.waitForState("docker.service", "active")
	h.waitForJobs()

	t.Run("the units start before Docker", func(t *testing.T) { h.withT(t).wantAdapterBeforeDocker() })
	t.Run("Docker uses a local network", func(t *testing.T) { h.withT(t).useLocalNetwork() })
	t.Run("no call is missed when the adapter is killed", func(t *testing.T) { h.withT(t).killAdapter() })
	t.Run("a restart finishes the calls in flight", func(t *testing.T) { h.withT(t).restartAdapter() })
	t.Run("the adapter runs as long as the host", func(t *testing.T) { h.withT(t).wantSmallAdapter() })
	t.Run("a shutdown leaves no endpoint", func(t *testing.T) { h.withT(t).shutDown() })
}

// wantAdapterBeforeDocker checks the state of the units after a boot.
func (h *host) wantAdapterBeforeDocker() {
	h.wantProperty(units.AdapterSocket, "ActiveState", "active")
	h.wantProperty(units.AdapterService, "ActiveState", "active")
	listening := h.number(units.AdapterSocket, "ActiveEnterTimestampMonotonic")
	started, docker := h.number(units.AdapterService, "ActiveEnterTimestampMonotonic"), h.number("docker.service", "InactiveExitTimestampMonotonic")
	if listening == 0 || started < listening || docker < started {
		h.t.Errorf("the socket listens at %d µs, the adapter starts at %d µs, Docker at %d µs", listening, started, docker)
	}
	h.contains(h.run("stat", "-c", "%a %U", adapter.Socket, "/run/docker"), "600 root", "755 root")
	h.contains(h.Journal(h.ctx, "docker.service"), "the network plugin answers")
	if out, code := h.Run(h.ctx, "systemd-analyze", "--man=no", "verify", units.AdapterService, units.AdapterSocket); code != 0 || strings.Contains(out, "firstboot-adapter") {
		h.t.Errorf("systemd does not understand the units:\n%s", out)
	}
	h.wantExit(0, []string{"setpriv", "--reuid=65534", "sh", "-c", "! test -w " + adapter.Socket})
}

// useLocalNetwork creates the network, starts a container and removes it.
func (h *host) useLocalNetwork() {
	h.run("sh", "-c", "tar -C /usr/bin -c firstboot | docker import - probe")
	h.run("docker", "network", "create", "--driver", "calico", "--ipam-driver", "calico-ipam", "--subnet", "10.213.0.0/16", "calico")
	h.contains(h.run("docker", "network", "inspect", "--format", "{{.Scope}} {{.Driver}}", "calico"), "local calico")
	h.startContainer("one")
	h.contains(h.run("docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "one"), "10.213.0.")
	h.contains(h.run("ip", "-o", "link"), "cali")
	created := h.calls("CreateEndpoint")
	if len(created) != 1 || created[0].NetworkID != "firstboot-pool" || len(created[0].EndpointID) != 64 {
		h.t.Fatalf("calls of CreateEndpoint: %+v", created)
	}
	const records = "/run/firstboot/adapter/endpoints"
	if out := strings.TrimSpace(h.run("ls", records)); out != created[0].EndpointID {
		h.t.Errorf("the adapter's records are %q, want %s", out, created[0].EndpointID)
	}
	h.run("docker", "rm", "-f", "one")
	if out := h.run("ls", records); out != "" {
		h.t.Errorf("the adapter's records are %q", out)
	}
	if out := h.run("ip", "-o", "link"); strings.Contains(out, "cali") {
		h.t.Errorf("a link is left:\n%s", out)
	}
	if deleted := h.calls("DeleteEndpoint"); !slices.Equal(deleted, created) {
		h.t.Errorf("created %+v, deleted %+v", created, deleted)
	}
	for _, method := range []string{"GetCapabilities", "CreateNetwork", "Leave"} {
		if seen := h.calls(method); len(seen) > 0 {
			h.t.Errorf("the plugin was called with %s: %+v", method, seen)
		}
	}
	h.wantExit(1, []string{"docker", "network", "create", "--driver", "calico", "--ipam-driver", "calico-ipam", "--subnet", "10.213.0.0/16", "--internal", "inside"},
		"cannot create the network: a Calico network cannot be internal")
}

func (h *host) startContainer(name string) {
	h.t.Helper()
	h.run("docker", "run", "--detach", "--name", name, "--network", "calico", "--restart", "always", "probe", "/firstboot", "probe-container")
}

// pluginCall is a call that the stand-in wrote.
type pluginCall struct{ Method, NetworkID, EndpointID string }

// calls returns the calls of a method of the network plugin.
func (h *host) calls(method string) []pluginCall {
	h.t.Helper()
	return parseCalls(h.t, h.readFile("/var/calls"), method)
}

func parseCalls(t *testing.T, text, method string) []pluginCall {
	t.Helper()
	var found []pluginCall
	for line := range strings.Lines(text) {
		var c pluginCall
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if c.Method == "NetworkDriver."+method {
			c.Method = ""
			found = append(found, c)
		}
	}
	return found
}

// call sends EndpointOperInfo to the adapter as Docker does, and returns the status. It
// never retries.
func (h *host) call() (int, error) {
	client := http.Client{Timeout: waitTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", h.Path(adapter.Socket))
		},
	}}
	defer client.CloseIdleConnections()
	body := fmt.Sprintf(`{"NetworkID":"%064d","EndpointID":"%064d"}`, 1, 2)
	resp, err := client.Post("http://plugin/NetworkDriver.EndpointOperInfo", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// killAdapter kills the adapter 15 times in a row. Calls wait in the socket.
func (h *host) killAdapter() {
	for n := range 15 {
		pid := h.property(units.AdapterService, "MainPID")
		h.run("kill", "-KILL", pid)
		if code, err := h.call(); err != nil || code != http.StatusOK {
			h.t.Errorf("call %d after a kill: %d %v", n, code, err)
		}
		h.waitFor("another process", func() (string, bool) {
			seen := h.property(units.AdapterService, "MainPID")
			return seen, seen != pid && seen != "0"
		})
	}
	h.run("systemctl", "stop", units.AdapterService)
	if code, err := h.call(); err != nil || code != http.StatusOK {
		h.t.Errorf("the socket does not start the adapter: %d %v", code, err)
	}
	h.wantProperty(units.AdapterSocket, "ActiveState", "active")
	h.wantProperty(units.AdapterSocket, "Result", "success")
	h.wantProperty("docker.service", "ActiveState", "active")
}

// restartAdapter restarts the adapter while the plugin has not answered yet, and
// sends calls during the restart.
func (h *host) restartAdapter() {
	before := len(h.calls("EndpointOperInfo"))
	h.run("touch", "/run/slow")
	slow := make(chan string, 2)
	send := func() {
		code, err := h.call()
		slow <- fmt.Sprint(code, err)
	}
	go send()
	h.waitFor("the plugin's call", func() (string, bool) {
		seen := len(h.calls("EndpointOperInfo"))
		return strconv.Itoa(seen), seen == before+1
	})
	pid := h.property(units.AdapterService, "MainPID")
	h.run("systemctl", "restart", "--no-block", units.AdapterService)
	h.waitForState(units.AdapterService, "deactivating")
	go send() // the next process answers it
	h.run("rm", "/run/slow")
	for range 2 {
		if got := <-slow; got != "200 <nil>" {
			h.t.Errorf("a call during the restart: %s", got)
		}
	}
	h.waitForState(units.AdapterService, "active")
	if now := h.property(units.AdapterService, "MainPID"); now == pid {
		h.t.Error("the adapter was not restarted")
	}
	h.wantProperty(units.AdapterService, "Result", "success")
}

// maxMemory is the limit of the adapter's own memory (RssAnon), in KiB.
const maxMemory = 20 << 10

// wantSmallAdapter makes some hundred calls, and checks the memory.
func (h *host) wantSmallAdapter() {
	pid := h.property(units.AdapterService, "MainPID")
	for range 300 {
		if code, err := h.call(); err != nil || code != http.StatusOK {
			h.t.Fatal(code, err)
		}
	}
	match := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindStringSubmatch(h.readFile("/proc/" + pid + "/status"))
	if match == nil {
		h.t.Fatal("no RssAnon")
	}
	h.t.Logf("RssAnon is %s kB", match[1])
	if size, err := strconv.Atoi(match[1]); err != nil || size > maxMemory {
		h.t.Errorf("RssAnon is %s kB, more than %d", match[1], maxMemory)
	}
	h.wantProperty(units.AdapterService, "MainPID", pid)
}

// shutDown powers the host off while a container runs. Docker stops first, and its
// calls reach the plugin.
func (h *host) shutDown() {
	h.startContainer("two")
	created := h.calls("CreateEndpoint")
	h.wantNoOrderingCycle()
	took, err := h.PowerOff(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Logf("the shutdown took %s", took.Round(time.Second/10))
	console := h.Console()
	last := 0
	// systemd shortens the lines.
	for _, message := range []string{"Stopped docker.service", "Stopping firstboot-adapter", "Stopped firstboot-adapter", "Closed firstboot-adapter"} {
		at := strings.Index(console, message)
		if at < last {
			h.t.Errorf("%q is missing or too early in:\n%s", message, console)
		}
		last = max(last, at)
	}
	data, err := os.ReadFile(filepath.Join(h.Disk(), "var/calls"))
	if err != nil {
		h.t.Fatal(err)
	}
	if deleted := parseCalls(h.t, string(data), "DeleteEndpoint"); len(created) != 2 || !slices.Equal(deleted, created) {
		h.t.Errorf("created %+v, deleted %+v", created, deleted)
	}
	if strings.Contains(strings.ToLower(console), "ordering cycle") {
		h.t.Error(console)
	}
}

// runcProgram is runc without control groups, which are read-only in systemd-nspawn.
// runc ignores this if it is rootless and no path is configured.
const runcProgram = `#!/usr/bin/python3
import json, os, sys

arguments = sys.argv[1:]
if "--bundle" in arguments:
    path = os.path.join(arguments[arguments.index("--bundle") + 1], "config.json")
    with open(path) as f:
        config = json.load(f)
    for key in "cgroupsPath", "resources":
        config["linux"].pop(key, None)
    with open(path, "w") as f:
        json.dump(config, f)
    # The keyring's system calls are forbidden, too.
    arguments.insert(arguments.index("create") + 1, "--no-new-keyring")
os.execv("/usr/sbin/runc", ["runc", "--rootless=true"] + arguments)
`

// localPluginUnit sets the plugin's socket as the stage minions does for a local
// network.
const localPluginUnit = `[Unit]
Description=Stand-in for eru-minions

[Service]
Environment=CALICO_CNM=` + adapter.PluginName + `
RuntimeDirectory=firstboot
RuntimeDirectoryPreserve=yes
ExecStart=/usr/bin/eru-minions
Restart=always
`

// localPluginProgram answers as eru-minions does, as far as Docker needs it.
const localPluginProgram = `#!/usr/bin/python3
import http.server, json, os, socketserver, subprocess, threading, time

lock, addresses = threading.Lock(), iter(range(2, 250))

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    def get_request(self):
        connection, _ = super().get_request()
        return connection, ("docker", 0)

def answer(method, request):
    link = request.get("EndpointID", "")[:11]
    if method == "Plugin.Activate":
        return {"Implements": ["IpamDriver"]}
    if method == "NetworkDriver.GetCapabilities":
        return {"Scope": "global"}
    if method == "NetworkDriver.CreateNetwork" or method == "NetworkDriver.Leave":
        return {"Err": "the adapter must answer " + method}
    if method == "NetworkDriver.EndpointOperInfo":
        while os.path.exists("/run/slow"):
            time.sleep(0.05)
    if method == "NetworkDriver.Join":
        subprocess.run(["ip", "link", "add", "cali" + link, "type", "veth", "peer", "name", "temp" + link], check=True)
        subprocess.run(["ip", "link", "set", "cali" + link, "up"], check=True)
        return {"InterfaceName": {"SrcName": "temp" + link, "DstPrefix": "cali"},
                "Gateway": "169.254.1.1", "GatewayIPv6": "fe80::ecee:eeff:feee:eeee",
                "StaticRoutes": [{"Destination": "169.254.1.1/32", "RouteType": 1, "NextHop": ""},
                                 {"Destination": "fe80::ecee:eeff:feee:eeee/128", "RouteType": 1, "NextHop": ""}]}
    if method == "IpamDriver.GetDefaultAddressSpaces":
        return {"LocalDefaultAddressSpace": "CalicoGlobalAddressSpace", "GlobalDefaultAddressSpace": "CalicoGlobalAddressSpace"}
    if method == "IpamDriver.RequestPool":
        return {"PoolID": "pool", "Pool": "10.213.0.0/16", "Data": {"com.docker.network.gateway": "0.0.0.0/0"}}
    if method == "IpamDriver.RequestAddress":
        return {"Address": "10.213.0.%d/32" % next(addresses)}
    return {}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        method = self.path[1:]
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}") or {}
        with lock, open("/var/calls", "a") as calls:
            calls.write(json.dumps({"Method": method, "NetworkID": request.get("NetworkID", ""), "EndpointID": request.get("EndpointID", "")}) + "\n")
        data = json.dumps(answer(method, request)).encode()
        self.send_response(500 if b'"Err"' in data else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

def serve(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        os.remove(path)
    threading.Thread(target=Server(path, Handler).serve_forever).start()

serve(os.environ["CALICO_CNM"])
serve("/run/docker/plugins/calico-ipam.sock")
`
