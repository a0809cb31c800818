//go:build lab

package nspawn

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// testWaitingRun boots a host with cloud-init and Docker, but without etcd. The host
// is usable during the wait. Only etcd or an operator can end the run's wait.
func testWaitingRun(t *testing.T, e *Environment) {
	units := with(withUnits(), map[string]string{"control-requires.service": "multi-user.target"})
	h := bootHost(t, e, Options{Enabled: units, Files: append(configured(goodConfig), append(cloudInitSeed(),
		File{Path: "/etc/systemd/system/control-requires.service", Data: controlRequires})...)})

	h.waitForState("firstboot.service", "activating")
	h.waitForState("multi-user.target", "active")
	h.wantProperty("firstboot.service", "ActiveState", "activating")
	for _, unit := range []string{"ssh.service", "console-getty.service", "docker.service"} {
		h.wantProperty(unit, "ActiveState", "active")
	}
	h.wantTargetNotReached()

	t.Run("the run starts after cloud-config.service", func(t *testing.T) {
		h := h.withT(t)
		h.waitForState("cloud-final.service", "active")
		h.wantProperty("cloud-config.service", "Result", "success")
		configured, started := h.number("cloud-config.service", "ActiveEnterTimestampMonotonic"), h.number("firstboot.service", "ExecMainStartTimestampMonotonic")
		if configured == 0 || started < configured {
			t.Errorf("the run started at %d µs, before cloud-config.service was done at %d µs", started, configured)
		}
	})
	t.Run("the wait is shown", func(t *testing.T) {
		h := h.withT(t)
		const waits = "waiting for etcd at " + etcdEndpoint
		h.waitFor("STATUS= with the wait", func() (string, bool) {
			seen := h.property("firstboot.service", "StatusText")
			return seen, strings.HasPrefix(seen, "1/10 preflight: "+waits+" since ")
		})
		h.wantExit(7, []string{"firstboot", "status"}, "running", "waiting for etcd at "+etcdEndpoint)
		h.contains(h.Journal(h.ctx, "firstboot.service"), waits)
		h.contains(h.Console(), waits)
	})
	t.Run("a restart of Docker does not end the run", func(t *testing.T) {
		h := h.withT(t)
		docker, run, other := h.property("docker.service", "InvocationID"), h.property("firstboot.service", "InvocationID"), h.property("control-requires.service", "InvocationID")
		h.run("systemctl", "restart", "docker.service")
		if h.property("docker.service", "InvocationID") == docker {
			t.Fatal("Docker was not restarted")
		}
		h.wantProperty("firstboot.service", "ActiveState", "activating")
		h.wantProperty("firstboot.service", "InvocationID", run)
		// A unit with Requires=docker.service is stopped and started again.
		h.waitFor("the restart of the control unit", func() (string, bool) {
			seen := h.property("control-requires.service", "InvocationID")
			return seen, seen != other
		})
		h.run("systemctl", "stop", "control-requires.service")
	})
	t.Run("an operator stops and restarts the run", h.stopAndRestart)
	t.Run("the run continues when etcd is running, and reports its failure", func(t *testing.T) { h.withT(t).startEtcd(e) })
}

// withT returns the host for use in a subtest.
func (h *host) withT(t *testing.T) *host { return &host{Machine: h.Machine, t: t, ctx: h.ctx} }

// stopAndRestart ends the run by systemctl stop and by systemctl restart.
func (h *host) stopAndRestart(t *testing.T) {
	h = h.withT(t)
	start := time.Now()
	h.run("systemctl", "stop", "firstboot.service")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the stop took %s", took)
	}
	h.wantProperty("firstboot.service", "ExecMainStatus", "130")
	h.contains(h.Journal(h.ctx, "firstboot.service"), "interrupted", "the next run continues from here")
	h.wantExit(1, []string{"firstboot", "status"}, "interrupted")
	h.waitForJobs()
	h.wantTargetNotReached()
	h.run("systemctl", "start", "--no-block", "firstboot-complete.target")
	h.waitForState("firstboot.service", "activating")
	h.waitForAttempt(2)
	h.run("systemctl", "restart", "--no-block", "firstboot.service")
	h.waitForAttempt(3)
	h.wantProperty("firstboot.service", "ActiveState", "activating")
}

// waitForAttempt waits until status reports this attempt.
func (h *host) waitForAttempt(want int) {
	h.t.Helper()
	h.waitFor(fmt.Sprintf("attempt %d", want), func() (string, bool) {
		out, _ := h.Run(h.ctx, "firstboot", "status", "-o", "json")
		var status struct {
			State   string
			Attempt int
		}
		err := json.Unmarshal([]byte(out), &status)
		return out, err == nil && status.Attempt == want && status.State == "running"
	})
}

// startEtcd starts etcd, so that the run reaches the stages that fail here.
func (h *host) startEtcd(e *Environment) {
	h.run("systemctl", "start", "--no-block", "firstboot-complete.target")
	if err := e.Etcd.Start(h.ctx); err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		if err := e.Etcd.Stop(); err != nil {
			h.t.Error(err)
		}
	}()
	h.waitForState("firstboot.service", "failed")
	h.wantProperty("firstboot.service", "ExecMainStatus", "1")
	h.wantProperty("firstboot.service", "Result", "exit-code")
	h.waitForJobs()
	h.wantTargetNotReached()
	h.wantExit(1, []string{"firstboot", "status"}, "failed", "sha256")

	const headline = "this host is NOT a member of its Calico network: the run failed"
	h.contains(h.Console(), "firstboot: failed after")
	for _, path := range []string{"/run/issue.d/firstboot.issue", "/etc/issue.d/firstboot.issue", "/run/motd.d/firstboot"} {
		h.contains(h.readFile(path), headline, "systemctl start firstboot-complete.target")
	}
	h.contains(h.run("systemctl", "--failed", "--no-legend", "--plain"), "firstboot.service")
}

// cloudInitSeed returns a seed for cloud-init's datasource NoCloud.
func cloudInitSeed() []File {
	return []File{
		{Path: "/var/lib/cloud/seed/nocloud/meta-data", Data: "instance-id: i-1\n"},
		{Path: "/var/lib/cloud/seed/nocloud/user-data", Data: "#cloud-config\n# Saves time: the image has no locales, and it already has host keys.\nlocale: false\nssh_deletekeys: false\n"},
	}
}

// controlRequires is a unit with Requires=docker.service, which firstboot.service must not have.
const controlRequires = `[Service]
Type=oneshot
ExecStart=sleep infinity
TimeoutStartSec=infinity

[Unit]
Requires=docker.service
DefaultDependencies=no
`
