package units_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

func TestEveryFileIsEmbedded(t *testing.T) {
	for _, f := range append(units.ImageFiles(), units.DropIns()...) {
		if len(f.Data) == 0 {
			t.Errorf("%s is empty", f.Path)
		}
	}
}

// A clone sets aside, and seal removes, the node's unit and its link.
func TestBakedIdentityContainsTheNodeUnit(t *testing.T) {
	for _, path := range []string{units.CalicoNodePath, units.AdminDir + "/" + units.Docker + ".wants/" + units.CalicoNode} {
		if !slices.Contains(state.BakedIdentity(), path) {
			t.Errorf("%s is not among %q", path, state.BakedIdentity())
		}
	}
}

func TestUnitsThatTheRunNeedsAreNotOrderedAfterIt(t *testing.T) {
	node, err := units.NodeUnit("/usr/bin/docker", "calico-node", state.Machine{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(units.DropIns(), node) {
		for line := range strings.Lines(string(f.Data)) {
			if strings.HasPrefix(line, "After=") && strings.Contains(line, "firstboot") {
				t.Errorf("%s: with %s it waits for the run, which waits for it", f.Path, strings.TrimSpace(line))
			}
		}
	}
}

// A clone of the disk must not start the node. test/nspawn tests the effect of the
// two conditions. Firmware can contain any text as the product UUID.
func TestNodeUnitStartsOnOneMachineOnly(t *testing.T) {
	const id, uuid = "0123456789abcdef0123456789abcdef", "4c4c4544-0044-4a10-8038-b8c04f4e3132"
	condition := "\nConditionHost=" + id + "\n"
	guard := "|| grep -qix " + uuid + " /sys/class/dmi/id/product_uuid'\n"
	for _, c := range []struct {
		machine state.Machine
		want    []string
		not     []string
	}{
		{state.Machine{MachineID: id, ProductUUID: uuid}, []string{condition, guard}, nil},
		{state.Machine{MachineID: id}, []string{condition}, []string{"ExecCondition"}},
		{state.Machine{}, nil, []string{"ConditionHost", "ExecCondition"}},
		{state.Machine{MachineID: id + "\nRequires=x", ProductUUID: "Not Settable'"}, nil, []string{"ConditionHost", "ExecCondition", "Requires=x", "Settable"}},
	} {
		unit, err := units.NodeUnit("/usr/bin/docker", "calico-node", c.machine, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range c.want {
			if !strings.Contains(string(unit.Data), words) {
				t.Errorf("%+v: no %q in\n%s", c.machine, words, unit.Data)
			}
		}
		for _, words := range c.not {
			if strings.Contains(string(unit.Data), words) {
				t.Errorf("%+v: %q in\n%s", c.machine, words, unit.Data)
			}
		}
	}
}

func TestQuoteRemovesSpecialMeanings(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "": `""`, "a b": `"a b"`, "100%": `"100%%"`, "$HOME": `"$$HOME"`,
		`say "hi"`: `"say \"hi\""`, `back\slash`: `"back\\slash"`, "A=b c": `"A=b c"`, ";": `";"`,
		"two\nlines": `"two\nlines"`, "cr\rB=c": `"cr\rB=c"`,
	} {
		if got := units.Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

// test/nspawn tests what these settings do.
func TestAdapterUnits(t *testing.T) {
	texts := map[string]string{}
	for _, f := range units.ImageFiles() {
		texts[f.Path] = "\n" + string(f.Data)
	}
	for path, words := range map[string][]string{
		units.Dir + "/" + units.AdapterSocket: {"StartLimitIntervalSec=0", "TriggerLimitIntervalSec=0", "SocketMode=0600",
			"ListenStream=/run/docker/plugins/calico.sock", "WantedBy=sockets.target"},
		units.Dir + "/" + units.AdapterService: {"StartLimitIntervalSec=0", "Before=docker.service", "WantedBy=docker.service", "Restart=always",
			"RuntimeDirectory=firstboot firstboot/adapter", "RuntimeDirectoryPreserve=yes"},
		units.PresetPath: {"disable firstboot-adapter.socket", "disable firstboot-adapter.service"},
	} {
		for _, line := range words {
			if !strings.Contains(texts[path], "\n"+line+"\n") {
				t.Errorf("%s: no line %q", path, line)
			}
		}
	}
	// sockets.target comes before all ordinary services.
	if strings.Contains(texts[units.Dir+"/"+units.AdapterSocket], "\nAfter=") {
		t.Error("the socket is ordered after another unit")
	}
	for _, name := range []string{units.AdapterSocket, units.AdapterService} {
		if units.Enabled()[name] != "" {
			t.Errorf("an image enables %s", name)
		}
	}
}

// A boot ends although a report cannot be delivered.
func TestReportServiceDelaysNothing(t *testing.T) {
	var unit, preset string
	for _, f := range units.ImageFiles() {
		switch f.Path {
		case units.Dir + "/" + units.ReportService:
			unit = string(f.Data)
		case units.PresetPath:
			preset = string(f.Data)
		}
	}
	if !strings.Contains(unit, "\nType=simple\n") || strings.Contains(unit, "[Install]") || strings.Contains(unit, "\nBefore=") {
		t.Errorf("systemd waits for the unit, or enables it:\n%s", unit)
	}
	if !strings.Contains(preset, "\ndisable "+units.ReportService+"\n") || units.Enabled()[units.ReportService] != "" {
		t.Errorf("the preset pass enables the unit:\n%s", preset)
	}
}

// The plugin must find the tunnel when it starts, with or without etcd, and no
// image has it enabled.
func TestTunnelIsReadyBeforeThePlugin(t *testing.T) {
	var unit, preset string
	for _, f := range units.ImageFiles() {
		switch f.Path {
		case units.Dir + "/" + units.EtcdTunnel:
			unit = string(f.Data)
		case units.PresetPath:
			preset = string(f.Data)
		}
	}
	for _, line := range []string{
		"Type=notify", "Before=" + units.Minions, "WantedBy=" + units.Minions, "Restart=always", "StartLimitIntervalSec=0",
		"FileDescriptorStoreMax=1", "RestartPreventExitStatus=3",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("no %s in\n%s", line, unit)
		}
	}
	if strings.Contains(unit, "network-online") {
		t.Errorf("the unit waits for the network:\n%s", unit)
	}
	if !strings.Contains(preset, "\ndisable "+units.EtcdTunnel+"\n") || units.Enabled()[units.EtcdTunnel] != "" {
		t.Errorf("the preset pass enables the unit:\n%s", preset)
	}
}
