//go:build lab

package nspawn

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/units"
)

// testDockerAndPlugin tests the drop-ins of a joined host: the plugin starts before
// Docker, which waits for it for a limited time. The plugin is a stand-in that
// answers Plugin.Activate when /run/serve exists. The real plugin answers when it
// has reached etcd.
func testDockerAndPlugin(t *testing.T, e *Environment) {
	files := append(configured(goodConfig),
		File{Path: "/usr/bin/eru-minions", Data: pluginProgram, Mode: 0o755},
		File{Path: "/usr/lib/systemd/system/eru-minions.service", Data: pluginUnit})
	for _, f := range units.DropIns() {
		files = append(files, File{Path: f.Path, Data: string(f.Data)})
	}
	h := bootHost(t, e, Options{
		Enabled: with(withUnits(), map[string]string{"eru-minions.service": "multi-user.target"}), Files: files, Without: withoutCloudInit(),
	})
	h.waitForState("eru-minions.service", "active")
	h.waitForDockerWait(1)
	h.wantProperty("docker.service", "SubState", "start-pre")
	for _, unit := range []string{"ssh.service", "console-getty.service"} {
		h.waitForState(unit, "active")
	}
	h.waitForState("firstboot.service", "activating")

	h.setPluginServing(true)
	h.waitForState("docker.service", "active")
	h.contains(h.Journal(h.ctx, "docker.service"), "the network plugin answers")
	plugin, docker := h.number("eru-minions.service", "ActiveEnterTimestampMonotonic"), h.number("docker.service", "InactiveExitTimestampMonotonic")
	if plugin == 0 || docker < plugin {
		t.Errorf("Docker started at %d µs, before eru-minions at %d µs", docker, plugin)
	}

	h.setPluginServing(false)
	h.run("systemctl", "restart", "--no-block", "docker.service")
	h.waitForDockerWait(2)
	t.Run("a stop ends the wait", func(t *testing.T) {
		h := h.withT(t)
		start := time.Now()
		h.run("systemctl", "stop", "docker.service", "docker.socket")
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the stop of Docker took %s", took)
		}
	})
	t.Run("Docker starts when the wait is over", func(t *testing.T) {
		h := h.withT(t)
		for _, f := range units.DropIns() {
			short := strings.Replace(string(f.Data), "--for 15m", "--for 2s", 1)
			if f.Path != units.DockerDropIn {
				continue
			}
			if short == string(f.Data) {
				t.Fatal("the wait is not 15 minutes")
			}
			if err := os.WriteFile(h.Path(f.Path), []byte(short), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		h.run("systemctl", "daemon-reload")
		h.run("systemctl", "start", "docker.service")
		h.wantProperty("docker.service", "ActiveState", "active")
		h.contains(h.Journal(h.ctx, "docker.service"), "the network plugin timed out after 2s")
	})
	t.Run("a shutdown ends the waits quickly", func(t *testing.T) {
		h := h.withT(t)
		h.wantProperty("firstboot.service", "ActiveState", "activating")
		h.run("sh", "-c", "sed -i s/2s/15m/ "+units.DockerDropIn+" && systemctl daemon-reload && systemctl restart --no-block docker.service")
		h.waitForDockerWait(4)
		took, err := h.PowerOff(h.ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the shutdown took %s", took)
		// Later, after 30 or 90 s, systemd would kill the remaining processes.
		if took > 20*time.Second {
			t.Errorf("the shutdown took %s", took)
		}
		h.contains(h.Console(), "interrupted")
	})
}

// waitForDockerWait waits until Docker's unit has started to wait for the plugin
// this many times since the boot.
func (h *host) waitForDockerWait(times int) {
	h.t.Helper()
	h.waitFor("Docker's wait for the plugin", func() (string, bool) {
		seen := h.Journal(h.ctx, "docker.service")
		return seen, strings.Count(seen, "waiting for the network plugin (eru-minions) for 0s") == times
	})
}

// setPluginServing sets whether the plugin answers.
func (h *host) setPluginServing(on bool) {
	h.t.Helper()
	if on {
		h.run("touch", "/run/serve")
		return
	}
	h.run("rm", "/run/serve")
	h.run("systemctl", "restart", "eru-minions.service")
}

const pluginUnit = `[Unit]
Description=Stand-in for eru-minions
After=network-online.target
Wants=network-online.target

[Service]
# Slow, so that a missing ordering makes the test fail.
ExecStartPre=sleep 1
ExecStart=/usr/bin/eru-minions
Restart=on-failure
`

const pluginProgram = `#!/usr/bin/python3
import http.server, os, socketserver, threading, time

while not os.path.exists("/run/serve"):
    time.sleep(0.05)

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    def get_request(self):
        connection, _ = super().get_request()
        return connection, ("docker", 0)

def serve(name, kind):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            answer = b'{"Implements":["%s"]}' % kind
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
    path = "/run/docker/plugins/" + name
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        os.remove(path)
    threading.Thread(target=Server(path, Handler).serve_forever).start()

serve("calico.sock", b"NetworkDriver")
serve("calico-ipam.sock", b"IpamDriver")
`
