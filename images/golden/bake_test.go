package golden

import (
	"bytes"
	"context"
	"debug/elf"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/provisiontest"
	"github.com/projecteru2/firstboot/units"
)

const minimal = provisiontest.Minimal

// write writes a file on this machine and makes its directories.
func write(t *testing.T, path, text string, mode fs.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// newBake returns a bake of an image that has only an os-release file. The test's
// own executable takes the place of firstboot.
func newBake(t *testing.T, configs ...string) *Bake {
	t.Helper()
	root := t.TempDir()
	write(t, root+"/usr/lib/os-release", "ID=test\n", 0o644)
	return &Bake{
		Host: host.New(root, host.Offline()), Binary: "/proc/self/exe", Config: configs, BundleDirs: stages.BundleDirs(),
		Files: func(*config.Config, *host.Host) ([]File, error) { return nil, nil },
		Artifacts: func(c *config.Config) []Artifact {
			return Artifacts(c, (&stages.Env{Config: c}).References())
		},
	}
}

// bake applies a bake to the image, and checks that a second bake changes nothing.
func bake(t *testing.T, b *Bake) *Plan {
	t.Helper()
	p, err := b.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Changes {
		if err := c.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	again, err := b.Plan(t.Context())
	if err != nil || len(again.Changes) > 0 {
		t.Errorf("a second bake would change %v, %v", again, err)
	}
	return p
}

func TestLaterConfigurationFilesWinInTheImage(t *testing.T) {
	dir := t.TempDir()
	first := write(t, dir+"/base.yaml", minimal+"node: {asNumber: 64513}\n", 0o644)
	second := write(t, dir+"/secret.yml", "node: {asNumber: 64514, environment: {A: correct-horse}}\n", 0o600)
	b := newBake(t, first, second)
	write(t, b.Host.Root()+config.VendorDir+"/50-vendor.yaml", "node: {asNumber: 64512}\npool: {blockSize: 28}\n", 0o644)
	write(t, b.Host.Root()+config.DropInDir+"/05-early.yaml", "node: {asNumber: 64515}\n", 0o644)
	p := bake(t, b)
	loaded, err := config.Load(t.Context(), config.Options{Root: b.Host.Root()})
	if err != nil {
		t.Fatal(err)
	}
	if c := loaded.Config; c.Node.ASNumber != 64514 || c.Pool.BlockSize != 28 {
		t.Errorf("AS %d, block %d: the sources are read in the wrong order", c.Node.ASNumber, c.Pool.BlockSize)
	}
	for path, want := range map[string]fs.FileMode{"/etc/firstboot/config.yaml": 0o644, "/etc/firstboot/config.d/10-secret.yaml": 0o600} {
		if info, err := b.Host.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %o", path, info, err, want)
		}
	}
	for _, c := range p.Changes {
		if strings.Contains(c.Diff, "correct-horse") {
			t.Errorf("the plan shows a secret: %s", c.Diff)
		}
	}
}

func TestConfigurationInTheImageIsValidated(t *testing.T) {
	b := newBake(t, write(t, t.TempDir()+"/my.yaml", minimal, 0o644))
	path := write(t, b.Host.Root()+config.DropInDir+"/99-late.yaml", "pool: {blockSize: 8}\n", 0o644)
	_, err := b.Plan(t.Context())
	problems, invalid := config.IsInvalid(err)
	if !invalid || problems[0].File != path || problems[0].Line != 1 {
		t.Errorf("got %v, want a problem at %s:1", err, path)
	}
}

func TestBakeWritesOnlyInsideTheImage(t *testing.T) {
	outside := t.TempDir()
	write(t, outside+"/daemon.json", "build machine's", 0o644)
	b := newBake(t, write(t, t.TempDir()+"/my.yaml", minimal, 0o644))
	root := b.Host.Root()
	for link, target := range map[string]string{"etc": outside, "usr/bin": outside + "/bin", "usr/lib/systemd": outside, "usr/lib/firstboot": outside} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, link)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	bake(t, b)
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("the build machine's directory contains %v, %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(root, outside, "bin/firstboot")); err != nil {
		t.Errorf("the image's links were not followed inside the image: %v", err)
	}
}

func TestImageForAnotherArchitectureIsRefused(t *testing.T) {
	b := newBake(t)
	b.NoConfig = true
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	data[18], data[19] = byte(elf.EM_RISCV), 0 // e_machine, elf(5)
	foreign := write(t, t.TempDir()+"/foreign", string(data), 0o755)
	write(t, b.Host.Root()+"/bin/sh", string(data), 0o755)
	_, err = b.Plan(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the image is for RISCV") {
		t.Errorf("got %v", err)
	}
	b.Binary = foreign
	if _, err := b.Plan(t.Context()); err != nil {
		t.Errorf("with a firstboot for the same architecture: %v", err)
	}
	b.Binary = write(t, t.TempDir()+"/text", "#!/bin/sh\n", 0o755)
	if _, err := b.Plan(t.Context()); err == nil {
		t.Error("a shell script was accepted as an executable")
	}
}

func TestMaskedUnitIsRefused(t *testing.T) {
	b := newBake(t)
	b.NoConfig = true
	if err := b.Host.Symlink("/dev/null", units.AdminDir+"/"+units.Service); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "firstboot.service is masked") {
		t.Errorf("got %v", err)
	}
}

func TestWarnsOfWhatTheFirstBootNeeds(t *testing.T) {
	b := newBake(t)
	b.NoConfig = true
	write(t, b.Host.Root()+"/etc/selinux/config", "# mode\nSELINUX=enforcing\n", 0o644)
	write(t, b.Host.Root()+"/var/lib/firstboot/complete.json", "{}", 0o600)
	p, err := b.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	warnings := strings.Join(p.Warnings, "\n")
	for _, want := range []string{"no systemd", "no Docker", "no rpm", "SELinux", "has run in this image"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("no warning %q in:\n%s", want, warnings)
		}
	}
	write(t, b.Host.Root()+"/etc/selinux/config", "SELINUX=disabled\n", 0o644)
	for _, path := range []string{"/usr/bin/dockerd", "/usr/bin/rpm"} {
		write(t, b.Host.Root()+path, "", 0o755)
	}
	if p, err = b.Plan(t.Context()); err != nil || strings.Contains(strings.Join(p.Warnings, "\n"), "SELinux") || len(p.Warnings) != 2+dynamic(t) {
		t.Errorf("got %v, %v", p, err)
	}
}

// dynamic returns 1 if the test's executable is dynamically linked, which causes one
// more warning.
func dynamic(t *testing.T) int {
	t.Helper()
	if _, linked, err := architecture("/proc/self/exe"); err != nil || !linked {
		return 0
	}
	return 1
}

func TestExistingBundleIsCopied(t *testing.T) {
	source := t.TempDir()
	items := []artifact.Item{
		{Entry: artifact.Entry{Name: calicoctl, Version: "v3.23.0"}, Path: write(t, t.TempDir()+"/c", "one", 0o644)},
		{Entry: artifact.Entry{Name: nodeImage}, Path: write(t, t.TempDir()+"/n", "two", 0o644)},
	}
	if _, err := Pack(t.Context(), source, items); err != nil {
		t.Fatal(err)
	}
	b := newBake(t, write(t, t.TempDir()+"/my.yaml", minimal+"minions: {url: http://nowhere.invalid/m, sha256: "+digestOf("three")+"}\n", 0o644))
	b.Bundle = source
	p := bake(t, b)
	if warnings := strings.Join(p.Warnings, "\n"); !strings.Contains(warnings, "has no eru-minions") {
		t.Errorf("no warning of the missing artifact: %s", warnings)
	}
	dir := b.Host.Root() + stages.BundleDirs()[0]
	got, err := artifact.OpenBundle(dir)
	if err != nil || len(got.Entries) != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	// A second bake repairs a damaged bundle.
	write(t, got.Path(got.Entries[0]), "eno", 0o644)
	bake(t, b)
	if err := got.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(source, "sha256", digestOf("one")), "eno", 0o644)
	if _, err := b.Plan(t.Context()); err == nil {
		t.Error("a damaged bundle was accepted")
	}
}

func TestUnavailablePinnedArtifactFailsBeforeTheImageChanges(t *testing.T) {
	b := newBake(t, write(t, t.TempDir()+"/my.yaml", minimal+"calicoctl: {sha256: "+digestOf("one")+"}\n", 0o644))
	b.Collect = func(ctx context.Context, c *config.Config) (Collection, error) {
		return collector(c, b.Host.RealPath(stages.BundleDirs()[0]), new(bytes.Buffer)).Collect(ctx)
	}
	p, err := b.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Changes[0].Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "calicoctl") {
		t.Errorf("the bundle is not the first change, or its error is not reported: %+v, %v", p.Changes[0], err)
	}
}

func TestEnabledUnitsMatchTheirInstallSections(t *testing.T) {
	enabled := units.Enabled()
	maps.Copy(enabled, units.EnabledByRun())
	for _, u := range units.ImageFiles() {
		unit, wanted := filepath.Base(u.Path), ""
		for line := range strings.Lines(string(u.Data)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "WantedBy="); ok {
				wanted = v
			}
		}
		if enabled[unit] != wanted {
			t.Errorf("%s: enabled for %q, WantedBy=%q", unit, enabled[unit], wanted)
		}
	}
}

// systemctl enable writes such a link if /lib is a link.
func TestLinkByAnotherPathIsAccepted(t *testing.T) {
	b := newBake(t)
	b.NoConfig = true
	h := b.Host
	if err := h.Symlink("usr/lib", "/lib"); err != nil {
		t.Fatal(err)
	}
	bake(t, b)
	wanted := units.AdminDir + "/multi-user.target.wants/" + units.Service
	for target, differs := range map[string]bool{"/lib/systemd/system/" + units.Service: false, "/lib/systemd/system/" + units.Target: true, "/nowhere": true} {
		if err := h.Symlink(target, wanted); err != nil {
			t.Fatal(err)
		}
		if p, err := b.Plan(t.Context()); err != nil || (len(p.Changes) > 0) != differs {
			t.Errorf("%s: %v, %v", target, p, err)
		}
	}
}
