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
)

// The time limits: of a whole story, and of one thing that a machine is about
// to do. Most take well under a second; other work on this machine can make
// everything ten times as slow.
const (
	storyTime = 3 * time.Minute
	soon      = 60 * time.Second
)

// etcdEndpoint is where Site.Etcd listens once it is started.
const etcdEndpoint = "http://" + Gateway + ":2379"

// goodConfig passes validation, and preflight too as soon as etcd is there.
// What it names as artifacts is there and is something else, so that later
// stages fail: nothing can come through here.
const goodConfig = `etcd: {endpoints: ["` + etcdEndpoint + `"]}
pool: {cidr: 10.213.0.0/16}
calicoctl: {url: /srv/artifact, sha256: feed000000000000000000000000000000000000000000000000000000000000}
node: {url: /srv/artifact, sha256: feed000000000000000000000000000000000000000000000000000000000000}
minions: {url: /srv/artifact, sha256: feed000000000000000000000000000000000000000000000000000000000000}
# What this machine's kernel is like is no part of these stories.
preflight: {ignore: [apparmor-parser, disk-space, kernel-modules]}
`

// The files of most stories: a configuration, and a service of a user that
// needs the network of the containers.
func configured(text string) []File {
	return []File{
		{Path: "/etc/firstboot/config.yaml", Data: text, Mode: 0o600},
		{Path: "/srv/artifact", Data: "not what was asked for\n"},
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

// withUnits are the units that an image enables, and the workload.
func withUnits() map[string]string {
	return with(Enabled(), map[string]string{workload: "firstboot-complete.target"})
}

// with is both maps in one.
func with(units, more map[string]string) map[string]string {
	all := maps.Clone(units)
	maps.Copy(all, more)
	return all
}

// withoutCloudInit are the files that make systemd know of cloud-init.
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

// host is a machine in a story.
type host struct {
	*Machine
	t   *testing.T
	ctx context.Context
}

// newHost makes a machine, which is switched off.
func newHost(t *testing.T, s *Site, o Options) *host {
	t.Helper()
	// Not the test's own context: that ends before what is cleaned up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), storyTime)
	m, err := s.Machine(o)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{Machine: m, t: t, ctx: ctx}
	// Every machine's journal is looked at for cycles, at the end.
	t.Cleanup(func() {
		if m.leader != 0 {
			h.noCycle()
		}
		if t.Failed() && m.leader != 0 {
			t.Logf("the journal:\n%s", h.Journal(ctx, ""))
		}
		cancel()
		if err := m.Cut(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// boots makes a machine and switches it on.
func boots(t *testing.T, s *Site, o Options, options ...string) *host {
	t.Helper()
	h := newHost(t, s, o)
	h.boot(options...)
	return h
}

func (h *host) boot(options ...string) {
	h.t.Helper()
	if err := h.Boot(h.ctx, options...); err != nil {
		h.t.Fatal(err)
	}
}

// run runs a command that must succeed, and returns what it printed.
func (h *host) run(args ...string) string {
	h.t.Helper()
	out, code := h.Run(h.ctx, args...)
	if code != 0 {
		h.t.Fatalf("%s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// exits runs a command that must end with this code, and say these words.
func (h *host) exits(code int, args []string, words ...string) {
	h.t.Helper()
	out, got := h.Run(h.ctx, args...)
	if got != code {
		h.t.Errorf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	h.says(out, words...)
}

func (h *host) says(text string, words ...string) {
	h.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			h.t.Errorf("%q is not said in:\n%s", w, text)
		}
	}
}

func (h *host) prop(unit, name string) string {
	h.t.Helper()
	return h.Property(h.ctx, unit, name)
}

// number is a property that is a number; times are in microseconds since PID 1
// started to run.
func (h *host) number(unit, name string) int64 {
	h.t.Helper()
	text := h.prop(unit, name)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		h.t.Fatalf("%s of %s is %q", name, unit, text)
	}
	return n
}

// is wants a property to be so now.
func (h *host) is(unit, name, want string) {
	h.t.Helper()
	if got := h.prop(unit, name); got != want {
		h.t.Errorf("%s of %s is %q, want %q", name, unit, got, want)
	}
}

// becomes waits until a unit's ActiveState is as wanted.
func (h *host) becomes(unit, want string) {
	h.t.Helper()
	h.until(unit+" "+want, func() (string, bool) {
		got := h.prop(unit, "ActiveState")
		return got, got == want
	})
}

// until waits for something that the machine is about to do.
func (h *host) until(what string, look func() (seen string, done bool)) {
	h.t.Helper()
	limit := time.NewTimer(soon)
	defer limit.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		seen, done := look()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			h.t.Fatalf("waited %s for %s: the last seen is %s", soon, what, seen)
		case <-h.ctx.Done():
			h.t.Fatalf("waited for %s until the story's time was over: the last seen is %s", what, seen)
		}
	}
}

// settled waits until PID 1 has nothing more to do.
func (h *host) settled() {
	h.t.Helper()
	h.until("the boot's end", func() (string, bool) {
		out, _ := h.Run(h.ctx, "systemctl", "list-jobs", "--no-legend")
		return out, out == ""
	})
}

// text is a file of the running machine, "" where there is none.
func (h *host) text(path string) string {
	h.t.Helper()
	data, err := os.ReadFile(h.Path(path))
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	return string(data)
}

// noCycle looks for what systemd says when it breaks one: on the console while
// the journal is not there yet.
func (h *host) noCycle() {
	h.t.Helper()
	for line := range strings.Lines(h.Journal(h.ctx, "") + h.Console()) {
		if strings.Contains(line, "ordering cycle") || strings.Contains(line, "Ordering cycle") {
			h.t.Error(strings.TrimSpace(line))
		}
	}
}

// notReached wants that neither the target nor what waits for it is there.
func (h *host) notReached() {
	h.t.Helper()
	for _, unit := range []string{"firstboot-complete.target", workload} {
		h.is(unit, "ActiveState", "inactive")
	}
}

// written is everything that differs from the image, but for firstboot's own
// folder and the journal: a line a file, with its mode, time and contents.
// The overlay's upper folder has exactly these, removed files included. Logins
// are left out: systemd records the runlevel there whenever it comes to it.
func (h *host) written() map[string]string {
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
