//go:build lab

package nspawn

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	machine "github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/units"
)

const (
	thisMachine  = "0123456789abcdef0123456789abcdef"
	otherMachine = "fedcba9876543210fedcba9876543210"
	nodename     = "/var/lib/calico/nodename"
)

// aCompleteHost is one whose disk says so: the run itself needs a machine with
// a kernel of its own. It needs no etcd any more, and no time.
func aCompleteHost(t *testing.T, s *Site) {
	h := newHost(t, s, Options{
		MachineID: thisMachine + "\n", Without: withoutCloudInit(),
		Enabled: with(withUnits(), map[string]string{"trivial.service": "multi-user.target"}),
		Files:   append(configured(goodConfig), File{Path: "/etc/systemd/system/trivial.service", Data: trivial()}),
	})
	h.complete(thisMachine)
	before := h.state()
	for range 2 { // at every boot
		h.boot()
		h.becomes("multi-user.target", "active")
		h.settled()
		for _, unit := range []string{"firstboot.service", "firstboot-complete.target", workload} {
			h.is(unit, "ActiveState", "active")
		}
		h.is("firstboot.service", "SubState", "exited")
		h.says(h.Journal(h.ctx, "firstboot.service"), "complete (not re-checked)")
		if err := h.Cut(); err != nil {
			t.Fatal(err)
		}
	}
	if after := h.state(); after != before {
		t.Errorf("two boots changed firstboot's files:\n%s\nbefore:\n%s", after, before)
	}
	h.boot()
	h.becomes(workload, "active")
	t.Run("is left alone by a second start", func(t *testing.T) {
		h := h.of(t)
		run := h.prop("firstboot.service", "InvocationID")
		h.run("systemctl", "start", "firstboot.service")
		h.is("firstboot.service", "InvocationID", run)
		h.exits(0, []string{"firstboot", "run"}, "complete (not re-checked)")
	})
	t.Run("costs a boot next to nothing", h.costs)
}

// maxRatio is how much longer than the shortest of programs firstboot may take
// on a complete host. A static Go program of its size starts in about 11 ms,
// true(1) in 1 to 3 ms; one try to reach etcd would be a thousand times as long.
const maxRatio = 20

// costs compares with a unit like it that runs true(1), the best of several
// starts of each: of more where other work on this machine is in the way, which
// what firstboot does itself would outlast.
func (h *host) costs(t *testing.T) {
	h = h.of(t)
	best := map[string]time.Duration{}
	tooSlow := func() bool { return best["firstboot.service"] > maxRatio*best["trivial.service"] }
	for try := 0; try < 5 || try < 40 && tooSlow(); try++ {
		for _, unit := range []string{"firstboot.service", "trivial.service"} {
			h.run("systemctl", "restart", unit)
			took := time.Duration(h.number(unit, "ExecMainExitTimestampMonotonic")-h.number(unit, "ExecMainStartTimestampMonotonic")) * time.Microsecond
			if known := best[unit]; known == 0 || took < known {
				best[unit] = took
			}
		}
	}
	t.Logf("firstboot takes %s, true %s", best["firstboot.service"], best["trivial.service"])
	if tooSlow() {
		t.Errorf("firstboot takes %s on a complete host, more than %d times the %s of true(1)", best["firstboot.service"], maxRatio, best["trivial.service"])
	}
}

// anotherMachine is a clone of a complete host: it must not pass as complete,
// nor bring up the node of the machine that it was taken from.
func anotherMachine(t *testing.T, s *Site) {
	node := nodeUnit(t)
	h := newHost(t, s, Options{
		MachineID: thisMachine + "\n", Without: withoutCloudInit(),
		Enabled: with(withUnits(), map[string]string{units.CalicoNode: units.Docker}),
		Files: append(configured(goodConfig), node, File{Path: nodename, Data: "host-of-the-image\n"},
			File{Path: productFile, Data: strings.ToUpper(productUUID) + "\n"}),
	})
	h.complete(thisMachine)
	h.boot()
	h.becomes("firstboot.service", "active")
	started := func() (string, bool) {
		seen := h.prop("calico-node.service", "ExecMainStartTimestampMonotonic")
		return seen, seen != "0"
	}
	h.until("the node of this machine to be started", started)

	// A clone that has the machine-id too differs by what the firmware says.
	h.run("systemctl", "stop", "calico-node.service")
	h.run("sed", "-i", "s/^4C/5C/", productFile)
	h.run("systemctl", "start", "calico-node.service")
	h.is("calico-node.service", "Result", "exec-condition")
	h.is("calico-node.service", "ActiveState", "inactive")
	if err := h.Cut(); err != nil {
		t.Fatal(err)
	}

	for _, f := range []File{
		{Path: "/etc/machine-id", Data: otherMachine + "\n", Mode: 0o444},
		{Path: productFile, Data: productUUID + "\n"},
	} {
		if err := f.write(h.Disk()); err != nil {
			t.Fatal(err)
		}
	}
	h.boot()
	h.becomes("multi-user.target", "active")
	h.is("firstboot.service", "ActiveState", "activating")
	h.notReached()
	aside := "is another machine's (" + thisMachine + ", this is " + otherMachine + "): it was set aside in /var/lib/firstboot/foreign/"
	h.says(h.Journal(h.ctx, "firstboot.service"), "the completion marker "+aside)
	h.exits(7, []string{"firstboot", "status"}, "running", "machine "+otherMachine, "attempt 1,", "set aside in /var/lib/firstboot/foreign/")
	h.says(h.run("sh", "-c", "ls /var/lib/firstboot/foreign/*"), "complete.json", "effective.yaml", "journal.json", "nodename")
	for _, gone := range []string{state.MarkerPath, nodename} {
		if h.text(gone) != "" {
			t.Errorf("%s is still there", gone)
		}
	}
	h.is("calico-node.service", "ExecMainStartTimestampMonotonic", "0")
	h.is("calico-node.service", "ActiveState", "inactive")
}

// The firmware's file, which cannot be another one here, is one of /etc.
const (
	productUUID = "4c4c4544-0044-4a10-8038-b8c04f4e3132"
	productFile = "/etc/product-uuid"
)

// nodeUnit is the unit of the node stage, as it is on the disk of thisMachine.
func nodeUnit(t *testing.T) File {
	t.Helper()
	cfg, err := config.Load(t.Context(), config.Options{Files: []string{configFile(t)}})
	if err != nil {
		t.Fatal(err)
	}
	args := stages.NodeArguments(cfg.Config, "host-of-the-image", netip.MustParseAddr("10.99.0.99"))
	unit, err := units.NodeUnit("/usr/bin/docker", "calico-node", state.Machine{MachineID: thisMachine, ProductUUID: productUUID}, args)
	if err != nil {
		t.Fatal(err)
	}
	return File{Path: unit.Path, Data: strings.ReplaceAll(string(unit.Data), "/sys/class/dmi/id/product_uuid", productFile)}
}

func configFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(goodConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// complete writes on the disk what a run leaves that came through.
func (h *host) complete(id string) {
	h.t.Helper()
	loaded, err := config.Load(h.ctx, config.Options{Files: []string{configFile(h.t)}})
	if err != nil {
		h.t.Fatal(err)
	}
	var saved bytes.Buffer
	if err := loaded.Save(&saved); err != nil {
		h.t.Fatal(err)
	}
	disk := machine.New(h.Disk())
	if err := disk.WriteFile(state.EffectivePath, saved.Bytes(), 0o600); err != nil {
		h.t.Fatal(err)
	}
	now, this := time.Now().UTC(), state.Machine{MachineID: id}
	j := state.Journal{State: state.Complete, Version: "v1", ConfigDigest: loaded.Digest, Machine: this, BootID: "1", Attempt: 1, Started: now, Finished: now}
	c := state.Marker{Version: "v1", ConfigDigest: loaded.Digest, Machine: this, BootID: "1", Started: now, Finished: now}
	for _, err := range []error{j.Save(disk), c.Save(disk)} {
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// state is firstboot's own folder, with times and contents.
func (h *host) state() string {
	h.t.Helper()
	var all strings.Builder
	for _, path := range []string{state.JournalPath, state.MarkerPath, state.EffectivePath} {
		full := filepath.Join(h.Disk(), path)
		info, err := os.Stat(full)
		if err != nil {
			h.t.Fatal(err)
		}
		data, err := os.ReadFile(full)
		if err != nil {
			h.t.Fatal(err)
		}
		all.WriteString(path + " " + info.ModTime().String() + "\n" + string(data))
	}
	return all.String()
}

// trivial is firstboot's own unit with another program.
func trivial() string {
	for _, f := range units.ImageFiles() {
		if strings.HasSuffix(f.Path, units.Service) {
			return regexp.MustCompile(`(?m)^ExecStart=.*`).ReplaceAllString(string(f.Data), "ExecStart=/usr/bin/true")
		}
	}
	return ""
}
