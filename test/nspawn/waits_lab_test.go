//go:build lab

package nspawn

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// aRunThatWaits boots a host whose etcd is not there, with cloud-init at work,
// and Docker. The host is usable all the while, and nothing but etcd, or an
// operator, ends the run.
func aRunThatWaits(t *testing.T, s *Site) {
	units := with(withUnits(), map[string]string{"control-requires.service": "multi-user.target"})
	h := boots(t, s, Options{Enabled: units, Files: append(configured(goodConfig), append(noCloudSeed(),
		File{Path: "/etc/systemd/system/control-requires.service", Data: controlRequires})...)})

	h.becomes("firstboot.service", "activating")
	h.becomes("multi-user.target", "active")
	h.is("firstboot.service", "ActiveState", "activating")
	for _, unit := range []string{"ssh.service", "console-getty.service", "docker.service"} {
		h.is(unit, "ActiveState", "active")
	}
	h.notReached()

	t.Run("runs after cloud-init's configuration", func(t *testing.T) {
		h := h.of(t)
		h.becomes("cloud-final.service", "active")
		h.is("cloud-config.service", "Result", "success")
		configured, started := h.number("cloud-config.service", "ActiveEnterTimestampMonotonic"), h.number("firstboot.service", "ExecMainStartTimestampMonotonic")
		if configured == 0 || started < configured {
			t.Errorf("the run started at %d µs, before cloud-config.service was done at %d µs", started, configured)
		}
	})
	t.Run("says what it waits for", func(t *testing.T) {
		h := h.of(t)
		const waits = "waiting for etcd at " + etcdEndpoint
		h.until("STATUS= with the wait", func() (string, bool) {
			seen := h.prop("firstboot.service", "StatusText")
			return seen, strings.HasPrefix(seen, "1/9 preflight: "+waits+" since ")
		})
		h.exits(7, []string{"firstboot", "status"}, "running", "waiting for etcd at "+etcdEndpoint)
		h.says(h.Journal(h.ctx, "firstboot.service"), waits)
		h.says(h.Console(), waits)
	})
	t.Run("is not ended by a restart of Docker", func(t *testing.T) {
		h := h.of(t)
		docker, run, other := h.prop("docker.service", "InvocationID"), h.prop("firstboot.service", "InvocationID"), h.prop("control-requires.service", "InvocationID")
		h.run("systemctl", "restart", "docker.service")
		if h.prop("docker.service", "InvocationID") == docker {
			t.Fatal("Docker was not restarted")
		}
		h.is("firstboot.service", "ActiveState", "activating")
		h.is("firstboot.service", "InvocationID", run)
		// A run that requires Docker is killed and begins anew.
		h.until("the control's end", func() (string, bool) {
			seen := h.prop("control-requires.service", "InvocationID")
			return seen, seen != other
		})
		h.run("systemctl", "stop", "control-requires.service")
	})
	t.Run("is ended by an operator, and goes on", h.isStopped)
	t.Run("goes on by itself once etcd is there, and tells of its failure", func(t *testing.T) { h.of(t).etcdComes(s) })
}

// of makes subtests fail by their own name.
func (h *host) of(t *testing.T) *host { return &host{Machine: h.Machine, t: t, ctx: h.ctx} }

// isStopped ends the run in the two ways that systemctl has.
func (h *host) isStopped(t *testing.T) {
	h = h.of(t)
	began := time.Now()
	h.run("systemctl", "stop", "firstboot.service")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %s", took)
	}
	h.is("firstboot.service", "ExecMainStatus", "130")
	h.says(h.Journal(h.ctx, "firstboot.service"), "interrupted", "the next run goes on from here")
	h.exits(1, []string{"firstboot", "status"}, "interrupted")
	h.settled()
	h.notReached()
	h.run("systemctl", "start", "--no-block", "firstboot-complete.target")
	h.becomes("firstboot.service", "activating")
	h.attempt(2)
	h.run("systemctl", "restart", "--no-block", "firstboot.service")
	h.attempt(3)
	h.is("firstboot.service", "ActiveState", "activating")
}

// attempt waits until status counts this attempt.
func (h *host) attempt(want int) {
	h.t.Helper()
	h.until("another attempt", func() (string, bool) {
		out, _ := h.Run(h.ctx, "firstboot", "status", "-o", "json")
		var status struct {
			State   string
			Attempt int
		}
		err := json.Unmarshal([]byte(out), &status)
		return out, err == nil && status.Attempt == want && status.State == "running"
	})
}

// etcdComes lets the run reach the stages that must fail here.
func (h *host) etcdComes(s *Site) {
	h.run("systemctl", "start", "--no-block", "firstboot-complete.target")
	if err := s.Etcd.Start(h.ctx); err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		if err := s.Etcd.Stop(); err != nil {
			h.t.Error(err)
		}
	}()
	h.becomes("firstboot.service", "failed")
	h.is("firstboot.service", "ExecMainStatus", "1")
	h.is("firstboot.service", "Result", "exit-code")
	h.settled()
	h.notReached()
	h.exits(1, []string{"firstboot", "status"}, "failed", "sha256")

	const headline = "this host is NOT a member of its Calico network: the run failed"
	h.says(h.Console(), "firstboot: failed after")
	for _, path := range []string{"/run/issue.d/firstboot.issue", "/etc/issue.d/firstboot.issue", "/run/motd.d/firstboot"} {
		h.says(h.text(path), headline, "systemctl start firstboot-complete.target")
	}
	h.says(h.run("systemctl", "--failed", "--no-legend", "--plain"), "firstboot.service")
}

// noCloudSeed is user-data that is already on the disk.
func noCloudSeed() []File {
	return []File{
		{Path: "/var/lib/cloud/seed/nocloud/meta-data", Data: "instance-id: i-1\n"},
		{Path: "/var/lib/cloud/seed/nocloud/user-data", Data: "#cloud-config\n# Only to be quick: the image has no locales, and host keys already.\nlocale: false\nssh_deletekeys: false\n"},
	}
}

// controlRequires is a run as firstboot's must not be.
const controlRequires = `[Service]
Type=oneshot
ExecStart=sleep infinity
TimeoutStartSec=infinity

[Unit]
Requires=docker.service
DefaultDependencies=no
`
