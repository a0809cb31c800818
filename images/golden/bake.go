package golden

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// BinaryPath is the path that the units run firstboot from.
const BinaryPath = "/usr/bin/firstboot"

// Bake installs firstboot into an image.
type Bake struct {
	Host   *host.Host // the image's root directory
	Binary string     // the firstboot to install, a path on this machine

	// Config lists configuration files to install, as paths on this machine.
	// If it is empty, the image must have its own configuration.
	Config []string
	// NoConfig means that the configuration is provided later: the image's own
	// is not read, and everything that depends on it is left out.
	NoConfig bool

	// Files returns the files that a configuration needs before the first run.
	Files func(*config.Config, *host.Host) ([]File, error)

	// BundleDirs are the directories that a host searches for bundles. The
	// image's bundle is written to the first.
	BundleDirs []string
	// Artifacts returns the artifacts of a configuration; Collect fetches them.
	Artifacts func(*config.Config) []Artifact
	Collect   func(context.Context, *config.Config) (Collection, error)
	// Bundle is an existing bundle to copy, a path on this machine. With
	// NoBundle the image gets no bundle.
	Bundle   string
	NoBundle bool

	options []host.Option // of the host that writes the bundle; for tests
}

// Plan lists the changes that bake an image.
type Plan struct {
	Changes  []Change `json:"changes"`
	Warnings []string `json:"warnings"`
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// Plan examines the image and changes nothing. The error of an invalid
// configuration is returned unwrapped (config.IsInvalid).
func (b *Bake) Plan(ctx context.Context) (*Plan, error) {
	p := &Plan{Changes: []Change{}, Warnings: []string{}}
	if err := b.checkImage(p); err != nil {
		return nil, err
	}
	loaded, files, err := b.loadConfig(ctx, p)
	if err != nil {
		return nil, err
	}
	// The bundle comes first: if a download fails, the image is unchanged.
	if err := b.planBundle(ctx, p, loaded); err != nil {
		return nil, err
	}
	if err := b.planBinary(p); err != nil {
		return nil, err
	}
	for _, u := range units.ImageFiles() {
		files = append(files, File{Path: u.Path, Data: u.Data, Mode: 0o644})
	}
	if loaded != nil {
		needed, err := b.Files(loaded.Config, b.Host)
		if err != nil {
			return nil, err
		}
		files = append(files, needed...)
	}
	for _, f := range files {
		if err := p.add(f.change(b.Host)); err != nil {
			return nil, err
		}
	}
	b.planLinks(p)
	return p, nil
}

func (p *Plan) add(c Change, differs bool, err error) error {
	if differs {
		p.Changes = append(p.Changes, c)
	}
	return err
}

// planBinary compares the image's firstboot with the one to install.
func (b *Bake) planBinary(p *Plan) error {
	want, size, err := fileDigest(b.Binary)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", b.Binary, err)
	}
	var actual string
	have, err := b.Host.SHA256(BinaryPath)
	switch {
	case host.NotExist(err):
		actual = missing
	case err != nil:
		return err
	case have != want:
		actual = "another build"
	default:
		if actual, err = wrongMode(b.Host, BinaryPath, 0o755); err != nil {
			return err
		}
	}
	return p.add(Change{
		Action: "write", Path: BinaryPath, Actual: actual, Size: size,
		apply: func(context.Context) error { return b.Host.InstallFile(b.Binary, BinaryPath, 0o755) },
	}, actual != "", nil)
}

// planLinks enables the units as systemctl enable does. It also links the login
// message to /run, so that a failure is shown even if nothing was written to the
// disk.
func (b *Bake) planLinks(p *Plan) {
	enabled := units.Enabled()
	for _, unit := range slices.Sorted(maps.Keys(enabled)) {
		path := fmt.Sprintf("%s/%s.wants/%s", units.AdminDir, enabled[unit], unit)
		c, differs := link(b.Host, units.Dir+"/"+unit, path)
		_ = p.add(c, differs, nil)
	}
	if c, differs := link(b.Host, report.RunIssue, report.IssueLink); differs {
		p.Changes = append(p.Changes, c)
	}
}

// checkImage reports an error if the root directory is not an image, or if this
// firstboot cannot run in it.
func (b *Bake) checkImage(p *Plan) error {
	if !b.Host.Exists("/etc/os-release") && !b.Host.Exists("/usr/lib/os-release") {
		return engine.WithHint(fmt.Errorf("cannot bake %s: it is not an unpacked image (no /etc/os-release, no /usr/lib/os-release)", b.Host.Root()),
			"name the directory that holds the image's /usr and /etc")
	}
	for unit := range units.Enabled() {
		if b.Host.Readlink(units.AdminDir+"/"+unit) == "/dev/null" {
			return engine.WithHint(fmt.Errorf("cannot bake %s: %s is masked in it", b.Host.Root(), unit),
				"systemctl --root %s unmask %s", b.Host.Root(), unit)
		}
	}
	if err := b.checkArchitecture(p); err != nil {
		return err
	}
	b.warnMissing(p)
	if b.Host.Exists(state.EffectivePath) || b.Host.Exists(state.MarkerPath) {
		p.warn("firstboot has run in this image, and its saved state overrides a new configuration: run firstboot seal --root %s", b.Host.Root())
	}
	return nil
}
