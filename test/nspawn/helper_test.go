//go:build lab

package nspawn

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Timeouts of a whole test and of a single wait. Most waits take well under a
// second, but a busy machine can be ten times as slow.
const (
	testTimeout = 3 * time.Minute
	waitTimeout = 60 * time.Second
)

// etcdEndpoint is the endpoint of Environment.Etcd.
const etcdEndpoint = "http://" + Gateway + ":2379"

// goodConfig passes validation, and also preflight when etcd is running. The
// artifacts exist but do not match their digests, so later stages fail.
const goodConfig = `etcd: {endpoints: ["` + etcdEndpoint + `"]}
pool: {cidr: 10.213.0.0/16}
docker: {network: global}
calicoctl: {url: /srv/artifact, sha256: feed000000000000000000000000000000000000000000000000000000000000}
node: {url: /srv/artifact, sha256: feed000000000000000000000000000000000000000000000000000000000000}
minions: {url: /srv/artifact, sha256: feed000000000000000000000000000000000000000000000000000000000000}
# These tests do not depend on the kernel of this machine.
preflight: {ignore: [apparmor-parser, disk-space, kernel-modules, sysctl]}
`

// configured returns the files of most tests: a configuration, and a user's
// service that needs the network of the containers.
func configured(text string) []File {
	return []File{
		{Path: "/etc/firstboot/config.yaml", Data: text, Mode: 0o600},
		{Path: "/srv/artifact", Data: "wrong contents\n"},
		{Path: "/etc/systemd/system/" + workload, Data: workloadUnit},
	}
}

const (
	workload     = "workload.service"
	workloadUnit = `[Unit]
Description=A workload that needs the containers' network
Requires=firstboot-complete.target
After=firstboot-complete.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=true

[Install]
WantedBy=firstboot-complete.target
`
)

// withUnits returns the units that an image enables, and the workload.
func withUnits() map[string]string {
	return with(Enabled(), map[string]string{workload: "firstboot-complete.target"})
}

// with merges two maps.
func with(units, more map[string]string) map[string]string {
	all := maps.Clone(units)
	maps.Copy(all, more)
	return all
}

// withoutCloudInit returns the files to remove so that systemd does not start cloud-init.
func withoutCloudInit() []string {
	list := []string{"/usr/lib/systemd/system-generators/cloud-init-generator"}
	for _, script := range []string{"cloud-config", "cloud-final", "cloud-init", "cloud-init-local"} {
		list = append(list, "/etc/init.d/"+script)
	}
	for _, unit := range []string{"cloud-config.service", "cloud-config.target", "cloud-final.service", "cloud-init.service", "cloud-init.target", "cloud-init-local.service", "cloud-init-hotplugd.service", "cloud-init-hotplugd.socket"} {
		list = append(list, "/usr/lib/systemd/system/"+unit)
	}
	return list
}

// host is a machine in a test.
type host struct {
	*Machine
	t   *testing.T
	ctx context.Context
}

// newHost creates a machine, which is not running.
func newHost(t *testing.T, e *Environment, o Options) *host {
	t.Helper()
	// Not the test's context, which ends before the cleanup.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testTimeout)
	m, err := e.Machine(o)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{Machine: m, t: t, ctx: ctx}
	// At the end, the journal of every machine is checked for ordering cycles.
	t.Cleanup(func() {
		if m.leader != 0 {
			h.wantNoOrderingCycle()
		}
		if t.Failed() && m.leader != 0 {
			t.Logf("journal:\n%s", h.Journal(ctx, ""))
		}
		cancel()
		if err := m.Cut(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// bootHost creates a machine and boots it.
func bootHost(t *testing.T, e *Environment, o Options, options ...string) *host {
	t.Helper()
	h := newHost(t, e, o)
	h.boot(options...)
	return h
}

func (h *host) boot(options ...string) {
	h.t.Helper()
	if err := h.Boot(h.ctx, options...); err != nil {
		h.t.Fatal(err)
	}
}

// run runs a command that must succeed, and returns its output.
func (h *host) run(args ...string) string {
	h.t.Helper()
	out, code := h.Run(h.ctx, args...)
	if code != 0 {
		h.t.Fatalf("%s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// wantExit runs a command that must exit with this code and print these words.
func (h *host) wantExit(code int, args []string, words ...string) {
	h.t.Helper()
	out, got := h.Run(h.ctx, args...)
	if got != code {
		h.t.Errorf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	h.contains(out, words...)
}

// contains ignores how lines are wrapped: status wraps them.
func (h *host) contains(text string, words ...string) {
	h.t.Helper()
	for _, w := range words {
		if !strings.Contains(unwrapped(text), unwrapped(w)) {
			h.t.Errorf("missing %q in:\n%s", w, text)
		}
	}
}

func unwrapped(text string) string { return strings.Join(strings.Fields(text), " ") }

func (h *host) property(unit, name string) string {
	h.t.Helper()
	return h.Property(h.ctx, unit, name)
}

// number returns a numeric property. Times are in microseconds since the start of
// PID 1.
func (h *host) number(unit, name string) int64 {
	h.t.Helper()
	text := h.property(unit, name)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		h.t.Fatalf("%s of %s is %q", name, unit, text)
	}
	return n
}

// wantProperty checks the current value of a property.
func (h *host) wantProperty(unit, name, want string) {
	h.t.Helper()
	if got := h.property(unit, name); got != want {
		h.t.Errorf("%s of %s is %q, want %q", name, unit, got, want)
	}
}

// waitForState waits until the unit has this ActiveState.
func (h *host) waitForState(unit, want string) {
	h.t.Helper()
	h.waitFor(unit+" "+want, func() (string, bool) {
		got := h.property(unit, "ActiveState")
		return got, got == want
	})
}

// waitFor waits until check returns done. seen is shown if it times out.
func (h *host) waitFor(what string, check func() (seen string, done bool)) {
	h.t.Helper()
	timeout := time.NewTimer(waitTimeout)
	defer timeout.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		seen, done := check()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			h.t.Fatalf("timed out after %s waiting for %s: the last seen is %s", waitTimeout, what, seen)
		case <-h.ctx.Done():
			h.t.Fatalf("the test timed out waiting for %s: the last seen is %s", what, seen)
		}
	}
}

// waitForJobs waits until systemd has no more jobs.
func (h *host) waitForJobs() {
	h.t.Helper()
	h.waitFor("the end of all jobs", func() (string, bool) {
		out, _ := h.Run(h.ctx, "systemctl", "list-jobs", "--no-legend")
		return out, out == ""
	})
}

// readFile returns the contents of a file on the running machine, or "" if it does not exist.
func (h *host) readFile(path string) string {
	h.t.Helper()
	name, err := securejoin.SecureJoin(h.Path("/"), path) // absolute links lead into the machine
	if err != nil {
		h.t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	return string(data)
}

// wantNoOrderingCycle searches the journal and the console for systemd's message
// about an ordering cycle.
func (h *host) wantNoOrderingCycle() {
	h.t.Helper()
	for line := range strings.Lines(h.Journal(h.ctx, "") + h.Console()) {
		if strings.Contains(line, "ordering cycle") || strings.Contains(line, "Ordering cycle") {
			h.t.Error(strings.TrimSpace(line))
		}
	}
}

// wantTargetNotReached checks that neither the target nor the workload is active.
func (h *host) wantTargetNotReached() {
	h.t.Helper()
	for _, unit := range []string{"firstboot-complete.target", workload} {
		h.wantProperty(unit, "ActiveState", "inactive")
	}
}

// changedFiles returns the mode, the time and the digest of all files that differ
// from the image, by path. These are the files in the overlay's upper directory,
// including removed ones. It excludes firstboot's own directory, the journal, and
// wtmp, in which systemd records the runlevel at an arbitrary time.
func (h *host) changedFiles() map[string]string {
	h.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(h.Disk(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, h.Disk())
		if name == "/var/lib/firstboot" || name == "/var/log/journal" {
			return fs.SkipDir
		}
		if name == "/var/log/wtmp" {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %s %x", info.ModTime().UTC().Format(time.RFC3339Nano), sha256.Sum256(data))
		}
		files[name] = line
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return files
}
