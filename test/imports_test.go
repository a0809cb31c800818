// Package test holds the checks of the repository as a whole: the words that
// people read, and the imports. It has no code of the product.
package test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/projecteru2/firstboot"

// TestProductDoesNotImportTests verifies that test helpers stay out of the
// binary and of the product's packages.
func TestProductDoesNotImportTests(t *testing.T) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	list.Dir = ".."
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || inTests(fields[0]) {
			continue
		}
		packages++
		for _, path := range fields[1:] {
			if inTests(path) {
				t.Errorf("%s imports %s", fields[0], path)
			}
		}
	}
	if packages < 10 {
		t.Errorf("go list found %d packages of the product", packages)
	}
}

func inTests(path string) bool {
	return path == module+"/test" || strings.HasPrefix(path, module+"/test/")
}
