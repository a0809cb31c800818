//go:build lab

package nspawn

import (
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/units"
)

// savedWithTLS is a saved configuration with an etcd that is not running.
const savedWithTLS = `effective: 2
defaults: 1
config:
  etcd:
    endpoints: ["https://127.0.0.1:1"]
  pool:
    cidr: "10.213.0.0/16"
`

// testTunnel tests firstboot-etcd.service: it starts before the plugin without
// etcd, serves root only with its restricted rights, and its port stays occupied
// while it restarts. It waits for its port.
func testTunnel(t *testing.T, e *Environment) {
	h := bootHost(t, e, Options{
		Enabled: map[string]string{"eru-minions.service": "multi-user.target", units.EtcdTunnel: units.Minions},
		Without: withoutCloudInit(),
		Files: []File{
			{Path: "/var/lib/firstboot/effective.yaml", Data: savedWithTLS, Mode: 0o600},
			{Path: "/usr/lib/systemd/system/eru-minions.service", Data: "[Service]\nExecStart=sleep infinity\n"},
		},
	})
	h.waitForState("eru-minions.service", "active")
	h.wantProperty(units.EtcdTunnel, "ActiveState", "active")
	ready, plugin := h.number(units.EtcdTunnel, "ActiveEnterTimestampMonotonic"), h.number("eru-minions.service", "ExecMainStartTimestampMonotonic")
	if ready == 0 || plugin < ready {
		t.Errorf("the plugin started at %d µs, before the tunnel was ready at %d µs", plugin, ready)
	}
	h.wantProperty(units.EtcdTunnel, "NFileDescriptorStore", "1")

	const connect = "exec 3<>/dev/tcp/127.0.0.1/23790 && cat <&3"
	h.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c", connect)
	h.waitForLine("refused a connection of the user 65534: only root may use this port")
	h.run("bash", "-c", connect)
	h.waitForLine("cannot reach etcd: 127.0.0.1:1: connect: connection refused")
	if status := h.property(units.EtcdTunnel, "StatusText"); !strings.Contains(status, "cannot reach etcd") {
		t.Errorf("the status is %q", status)
	}

	// While the service restarts, systemd listens. The connection waits.
	h.run("systemctl", "kill", "--signal=KILL", units.EtcdTunnel)
	h.run("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/23790 && cat <&3")
	h.waitFor("the restarted tunnel", func() (string, bool) {
		n := h.property(units.EtcdTunnel, "NRestarts")
		return n, n == "1" && h.property(units.EtcdTunnel, "ActiveState") == "active"
	})

	start := time.Now()
	h.run("systemctl", "stop", units.EtcdTunnel)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	h.wantProperty(units.EtcdTunnel, "Result", "success")

	// The plugin must not take another process for etcd.
	h.run("systemd-run", "--unit=other", "python3", "-m", "http.server", "--bind", "127.0.0.1", "23790")
	h.waitFor("the other process", func() (string, bool) {
		out, code := h.Run(h.ctx, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/23790")
		return out, code == 0
	})
	h.run("systemctl", "start", "--no-block", units.EtcdTunnel)
	h.waitForLine("waiting for the port 127.0.0.1:23790, which another process uses")
	h.wantProperty(units.EtcdTunnel, "ActiveState", "activating")
	h.run("systemctl", "stop", "other.service")
	h.waitForState(units.EtcdTunnel, "active")

	// A configuration without TLS ends the unit for good.
	h.run("sed", "-i", "s,https://,http://,", "/var/lib/firstboot/effective.yaml")
	h.run("systemctl", "restart", "--no-block", units.EtcdTunnel)
	h.waitForState(units.EtcdTunnel, "failed")
	h.wantProperty(units.EtcdTunnel, "ExecMainStatus", "3")
}

// waitForLine waits until the journal of the tunnel contains text.
func (h *host) waitForLine(text string) {
	h.t.Helper()
	h.waitFor(text, func() (string, bool) {
		seen := h.Journal(h.ctx, units.EtcdTunnel)
		return seen, strings.Contains(seen, text)
	})
}
