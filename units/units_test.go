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

// TestTheNodeUnitIsPartOfABakedIdentity: what a clone sets aside, and a seal
// removes, has the places where the node's unit is put and enabled.
func TestTheNodeUnitIsPartOfABakedIdentity(t *testing.T) {
	for _, path := range []string{units.CalicoNodePath, units.AdminDir + "/" + units.Docker + ".wants/" + units.CalicoNode} {
		if !slices.Contains(state.BakedIdentity(), path) {
			t.Errorf("%s is not among %q", path, state.BakedIdentity())
		}
	}
}

func TestNoWorkerIsOrderedAfterFirstboot(t *testing.T) {
	node, err := units.NodeUnit("/usr/bin/docker", "calico-node", state.Machine{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(units.DropIns(), node) {
		for line := range strings.Lines(string(f.Data)) {
			if strings.HasPrefix(line, "After=") && strings.Contains(line, "firstboot") {
				t.Errorf("%s: %s would wait for a run that waits for it", f.Path, strings.TrimSpace(line))
			}
		}
	}
}

// TestNodeIsOfOneMachine: a clone of the disk must not start it. What the two
// conditions do is seen in test/nspawn; firmware may tell anything at all.
func TestNodeIsOfOneMachine(t *testing.T) {
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

func TestQuoteTakesMeaningAway(t *testing.T) {
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
