// Package test holds the checks of the repository as a whole: the words that
// people read, and the imports. It has no code of the product.
package test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/projecteru2/firstboot"

// productImports maps each package of the product to those of the module that
// it imports, tests left out. Paths are relative to the module.
func productImports(t *testing.T) map[string][]string {
	t.Helper()
	list := exec.Command("go", "list", "-f", `{{if .GoFiles}}{{.ImportPath}} {{join .Imports " "}}{{end}}`, "./...")
	list.Dir = ".."
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || inTests(relative(fields[0])) {
			continue
		}
		name := relative(fields[0])
		imports[name] = nil
		for _, path := range fields[1:] {
			if strings.HasPrefix(path, module+"/") {
				imports[name] = append(imports[name], relative(path))
			}
		}
	}
	if len(imports) < 10 {
		t.Fatalf("go list found %d packages of the product", len(imports))
	}
	return imports
}

func relative(path string) string { return strings.TrimPrefix(path, module+"/") }

func inTests(path string) bool { return path == "test" || strings.HasPrefix(path, "test/") }

// TestProductDoesNotImportTests verifies that test helpers stay out of the
// binary and of the product's packages.
func TestProductDoesNotImportTests(t *testing.T) {
	for name, imports := range productImports(t) {
		for _, path := range imports {
			if inTests(path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

// TestUnusedMethodsAreRemoved verifies that nothing finds methods by their names.
// Otherwise the linker keeps all methods of all types, which makes the binary
// larger by 3 MB. `go build -ldflags=-dumpdep` marks such functions with
// <ReflectMethod>.
func TestUnusedMethodsAreRemoved(t *testing.T) {
	search := exec.Command("git", "-C", "..", "grep", "--untracked", "-nE", `^\s*"(text|html)/template"$|\.Set(Usage|Help|Version)Template\(`,
		"--", "cmd/*.go", "images/*.go", "internal/*.go", "stages/*.go", "units/*.go", ":!*_test.go")
	if out, _ := search.CombinedOutput(); len(out) > 0 { // exit code 1: nothing found
		t.Errorf("templates call methods by name:\n%s", out)
	}
}

// layers lists the packages from the top down. A package imports packages of
// layers below its own only; docs/architecture.md draws them.
func layers() [][]string {
	return [][]string{
		{"cmd/firstboot"},
		{"images/golden", "images/cloudinit", "images/pxe", "images/disk"},
		{"images/ignition"},
		{"images"},
		{"internal/app"},
		{"stages"},
		{"internal/report", "internal/webhook"},
		{"internal/calico", "internal/minions"},
		{"internal/adapter"},
		{"internal/dockerd"},
		{"units", "internal/artifact", "internal/cluster", "internal/tunnel"},
		{"internal/state"},
		{"internal/engine"},
		{"internal/host"},
		{"internal/web"},
		{"internal/config"},
		{"internal/certificate"},
		{"internal/secret", "internal/fault", "internal/sysctl", "internal/unified"},
		{"internal/text"},
	}
}

func TestImportsGoDownward(t *testing.T) {
	level := map[string]int{}
	for i, names := range layers() {
		for _, name := range names {
			level[name] = i
		}
	}
	for name, imports := range productImports(t) {
		above, ok := level[name]
		if !ok {
			t.Errorf("%s is in no layer", name)
			continue
		}
		for _, path := range imports {
			if below, ok := level[path]; !ok || below <= above {
				t.Errorf("%s imports %s, which is not below it", name, path)
			}
		}
	}
}
