package units_test

import (
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/units"
)

func TestEveryFileIsEmbedded(t *testing.T) {
	for _, f := range append(units.Image(), units.DropIns()...) {
		if len(f.Data) == 0 {
			t.Errorf("%s is empty", f.Path)
		}
	}
}

func TestNoWorkerIsOrderedAfterFirstboot(t *testing.T) {
	node, err := units.NodeUnit("/usr/bin/docker", "calico-node", nil)
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
