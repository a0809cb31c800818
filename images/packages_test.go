package images_test

import (
	"os"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/units"
)

// TestPackagesHaveEveryUnit compares the list of the packages with the units
// that bake installs.
func TestPackagesHaveEveryUnit(t *testing.T) {
	list, err := os.ReadFile("packages/nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	build, err := os.ReadFile("packages/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range units.ImageFiles() {
		name := f.Path[strings.LastIndex(f.Path, "/")+1:]
		if !strings.Contains(string(list), "dst: "+f.Path+",") {
			t.Errorf("nfpm.yaml lacks %s", f.Path)
		}
		if !strings.Contains(string(build), "units/files/"+name+" ") {
			t.Errorf("build.sh does not copy %s", name)
		}
	}
}
