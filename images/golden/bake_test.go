package golden

import (
	"bytes"
	"context"
	"debug/elf"
	"io/fs"
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

const least = provisiontest.Minimal

// write makes a file of this machine, with its folders.
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

// newBake bakes a new image, which has nothing but its name, with this test's
// own program.
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

// bake makes all of the image's changes.
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

func TestLaterConfigurationsWinInTheImageToo(t *testing.T) {
	dir := t.TempDir()
	first := write(t, dir+"/base.yaml", least+"node: {asNumber: 64513}\n", 0o644)
	second := write(t, dir+"/secret.yml", "node: {asNumber: 64514, environment: {A: correct-horse}}\n", 0o600)
	b := newBake(t, first, second)
	write(t, b.Host.Root()+config.VendorDir+"/50-maker.yaml", "node: {asNumber: 64512}\npool: {blockSize: 28}\n", 0o644)
	write(t, b.Host.Root()+config.DropInDir+"/05-early.yaml", "node: {asNumber: 64515}\n", 0o644)
	p := bake(t, b)
	loaded, err := config.Load(t.Context(), config.Options{Root: b.Host.Root()})
	if err != nil {
		t.Fatal(err)
	}
	if c := loaded.Config; c.Node.ASNumber != 64514 || c.Pool.BlockSize != 28 {
		t.Errorf("AS %d, block %d: the sources' order is another", c.Node.ASNumber, c.Pool.BlockSize)
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

func TestWhatTheImageAddsIsValidatedWithTheRest(t *testing.T) {
	b := newBake(t, write(t, t.TempDir()+"/my.yaml", least, 0o644))
	path := write(t, b.Host.Root()+config.DropInDir+"/99-late.yaml", "pool: {blockSize: 8}\n", 0o644)
	_, err := b.Plan(t.Context())
	problems, invalid := config.IsInvalid(err)
	if !invalid || problems[0].File != path || problems[0].Line != 1 {
		t.Errorf("got %v, want a problem at %s:1", err, path)
	}
}

func TestABakeStaysInsideTheImage(t *testing.T) {
	outside := t.TempDir()
	write(t, outside+"/daemon.json", "of the build machine", 0o644)
	b := newBake(t, write(t, t.TempDir()+"/my.yaml", least, 0o644))
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
		t.Errorf("the build machine's folder holds %v, %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(root, outside, "bin/firstboot")); err != nil {
		t.Errorf("the image's links were not followed inside it: %v", err)
	}
}

func TestAnImageOfAnotherProcessorIsRefused(t *testing.T) {
	b := newBake(t)
	b.NoConfig = true
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program = bytes.Clone(program[:4096])
	if _, err := elf.NewFile(bytes.NewReader(program)); err == nil {
		t.Fatal("a program cut short is still read whole")
	}
	foreign := write(t, t.TempDir()+"/foreign", "", 0o755)
	whole, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	whole[18], whole[19] = byte(elf.EM_RISCV), 0 // e_machine, elf(5)
	if err := os.WriteFile(foreign, whole, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, b.Host.Root()+"/bin/sh", string(whole), 0o755)
	_, err = b.Plan(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the image is for RISCV") {
		t.Errorf("got %v", err)
	}
	b.Binary = foreign
	if _, err := b.Plan(t.Context()); err != nil {
		t.Errorf("with a firstboot that is built for it: %v", err)
	}
	b.Binary = write(t, t.TempDir()+"/text", "#!/bin/sh\n", 0o755)
	if _, err := b.Plan(t.Context()); err == nil {
		t.Error("a text was taken for a program")
	}
}

func TestAMaskedUnitIsSaid(t *testing.T) {
	b := newBake(t)
	b.NoConfig = true
	if err := b.Host.Symlink("/dev/null", units.AdminDir+"/"+units.Service); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "firstboot.service is masked") {
		t.Errorf("got %v", err)
	}
}

func TestWarningsOfWhatAFirstBootWillMiss(t *testing.T) {
	b := newBake(t)
	b.NoConfig = true
	write(t, b.Host.Root()+"/etc/selinux/config", "# mode\nSELINUX=enforcing\n", 0o644)
	write(t, b.Host.Root()+"/var/lib/firstboot/complete.json", "{}", 0o600)
	p, err := b.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(p.Warnings, "\n")
	for _, want := range []string{"no systemd", "no Docker", "no rpm", "SELinux", "has run in this image"} {
		if !strings.Contains(said, want) {
			t.Errorf("no word of %q in:\n%s", want, said)
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

// dynamic is 1 where the test's own program is, which is one more warning.
func dynamic(t *testing.T) int {
	t.Helper()
	if _, is, err := processor("/proc/self/exe"); err != nil || !is {
		return 0
	}
	return 1
}

func TestAReadyBundleIsCopiedWhole(t *testing.T) {
	ready := t.TempDir()
	items := []artifact.Item{
		{Entry: artifact.Entry{Name: calicoctl, Version: "v3.23.0"}, Path: write(t, t.TempDir()+"/c", "one", 0o644)},
		{Entry: artifact.Entry{Name: nodeImage}, Path: write(t, t.TempDir()+"/n", "two", 0o644)},
	}
	if _, err := Pack(t.Context(), ready, items); err != nil {
		t.Fatal(err)
	}
	b := newBake(t, write(t, t.TempDir()+"/my.yaml", least+"minions: {url: http://nowhere.invalid/m, sha256: "+sumOf("three")+"}\n", 0o644))
	b.Bundle = ready
	p := bake(t, b)
	if said := strings.Join(p.Warnings, "\n"); !strings.Contains(said, "without eru-minions") {
		t.Errorf("no word of what the bundle lacks: %s", said)
	}
	dir := b.Host.Root() + stages.BundleDirs()[0]
	got, err := artifact.OpenBundle(dir)
	if err != nil || len(got.Entries) != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	// A bundle that was damaged since is made whole.
	write(t, got.Path(got.Entries[0]), "eno", 0o644)
	bake(t, b)
	if err := got.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(ready, "sha256", sumOf("one")), "eno", 0o644)
	if _, err := b.Plan(t.Context()); err == nil {
		t.Error("a damaged bundle was taken")
	}
}

func TestAPinnedArtifactThatNobodyHasIsAnError(t *testing.T) {
	b := newBake(t, write(t, t.TempDir()+"/my.yaml", least+"calicoctl: {sha256: "+sumOf("one")+"}\n", 0o644))
	b.Collect = func(ctx context.Context, c *config.Config) (Collection, error) {
		return collector(c, b.Host.RealPath(stages.BundleDirs()[0]), new(bytes.Buffer)).Collect(ctx)
	}
	p, err := b.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Changes[0].Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "calicoctl") {
		t.Errorf("the first change to the image is not the one that can fail: %+v, %v", p.Changes[0], err)
	}
}

func TestEnabledUnitsAreWhatTheirInstallSectionsSay(t *testing.T) {
	enabled := units.Enabled()
	for _, u := range units.ImageFiles() {
		unit, wanted := filepath.Base(u.Path), ""
		for line := range strings.Lines(string(u.Data)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "WantedBy="); ok {
				wanted = v
			}
		}
		if enabled[unit] != wanted {
			t.Errorf("%s: enabled for %q, [Install] says %q", unit, enabled[unit], wanted)
		}
	}
}

// As systemctl enable writes it where /lib is a link.
func TestALinkByAnotherWayIsALink(t *testing.T) {
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
