package parts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/test/lab/cache"
)

const (
	productModule = "github.com/projecteru2/firstboot"
	calicoModule  = "github.com/projectcalico/calico"
	// calicoDir is the directory of the nested module that requires Calico.
	calicoDir = "calico"
)

// goProgram is a program that is built in the nested module.
type goProgram struct {
	name    string
	path    string   // import path, or ./directory in the module
	version string   // set by the linker
	symbols []string // variables that hold the version
}

func calicoctl() goProgram {
	commands := calicoModule + "/calicoctl/calicoctl/commands"
	return goProgram{"calicoctl", calicoModule + "/calicoctl/calicoctl", CalicoVersion,
		[]string{commands + ".VERSION", commands + "/common.VERSION"}}
}

func calicoNode() goProgram {
	return goProgram{"calico-node", calicoModule + "/node/cmd/calico-node", CalicoVersion,
		[]string{calicoModule + "/node/pkg/lifecycle/startup.VERSION"}}
}

func minions() goProgram {
	return goProgram{"eru-minions", "./minions", minionsVersion, []string{"main.version"}}
}

// args returns the arguments of a reproducible build without symbols.
func (p goProgram) args(output string) []string {
	flags := []string{"-s", "-w"}
	for _, s := range p.symbols {
		flags = append(flags, "-X", s+"="+p.version)
	}
	return []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", strings.Join(flags, " "), "-o", output, p.path}
}

// goProgram builds a static program unless it is in the cache, and returns its path.
func (b builder) goProgram(ctx context.Context, p goProgram) (string, error) {
	target, err := b.command(ctx, "env", "GOVERSION", "GOARCH")
	if err != nil {
		return "", err
	}
	sources := []string{filepath.Join(b.dir, "go.mod"), filepath.Join(b.dir, "go.sum")}
	if own, found := strings.CutPrefix(p.path, "./"); found {
		sources = append(sources, filepath.Join(b.dir, own))
	}
	contents, err := cache.Contents(sources...)
	if err != nil {
		return "", err
	}
	key := cache.Key(slices.Concat([]string{target, contents}, p.args(p.name))...)
	dir, err := b.store.Get(ctx, p.name, key, func(ctx context.Context, dir string) error {
		_, err := b.command(ctx, p.args(filepath.Join(dir, p.name))...)
		return err
	})
	return filepath.Join(dir, p.name), err
}

// calicoSource returns the directory of Calico's module, which contains templates
// and startup scripts for the image.
func (b builder) calicoSource(ctx context.Context) (string, error) {
	if _, err := b.command(ctx, "mod", "download", calicoModule); err != nil {
		return "", err
	}
	return b.command(ctx, "list", "-m", "-f", "{{.Dir}}", calicoModule)
}

// moduleDir returns the directory of a nested module in the current checkout.
func moduleDir(ctx context.Context, name string) (string, error) {
	root, err := builder{dir: "."}.command(ctx, "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", fmt.Errorf("cannot find the sources of the lab's parts: %w", err)
	}
	dir := filepath.Join(root, "test", "lab", "parts", name)
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return "", fmt.Errorf("cannot find the sources of the lab's parts: %w (the working directory must be in a checkout of %s)", err, productModule)
	}
	return dir, nil
}

// command runs go in the module and returns its output.
func (b builder) command(ctx context.Context, args ...string) (string, error) {
	return run(ctx, process{name: "go", args: args, dir: b.dir, env: []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS="}})
}
