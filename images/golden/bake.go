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

// BinaryPath is where the units expect firstboot.
const BinaryPath = "/usr/bin/firstboot"

// Bake puts firstboot into an image.
type Bake struct {
	Host   *host.Host // the image's root folder
	Binary string     // the firstboot that the image gets, a path of this process

	// Config are configuration files to put into the image; none: the image
	// has its own. They are a path of this process each.
	Config []string
	// NoConfig says that the configuration comes later: the image's is not
	// looked at, and what depends on it is left out.
	NoConfig bool

	// Files are what the configuration needs before the first run.
	Files func(*config.Config, *host.Host) ([]File, error)

	// BundleDirs are where a host looks for bundles; the first gets one.
	BundleDirs []string
	// Artifacts are those of a configuration, and Collect gets them.
	Artifacts func(*config.Config) []Artifact
	Collect   func(context.Context, *config.Config) (Collection, error)
	// Bundle is a ready bundle to put in, a path of this process; NoBundle
	// leaves the image without.
	Bundle   string
	NoBundle bool
}

// Plan is what an image lacks.
type Plan struct {
	Changes  []Change `json:"changes"`
	Warnings []string `json:"warnings"`
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// Plan looks at the image and changes nothing. An invalid configuration comes
// back as it is (config.IsInvalid).
func (b *Bake) Plan(ctx context.Context) (*Plan, error) {
	p := &Plan{Changes: []Change{}, Warnings: []string{}}
	if err := b.look(p); err != nil {
		return nil, err
	}
	loaded, files, err := b.configuration(ctx, p)
	if err != nil {
		return nil, err
	}
	// First what can fail for want of a network: then the image is as it was.
	if err := b.bundle(ctx, p, loaded); err != nil {
		return nil, err
	}
	if err := b.program(p); err != nil {
		return nil, err
	}
	for _, u := range units.ImageFiles() {
		files = append(files, File{Path: u.Path, Data: u.Data, Mode: 0o644})
	}
	if loaded != nil {
		early, err := b.Files(loaded.Config, b.Host)
		if err != nil {
			return nil, err
		}
		files = append(files, early...)
	}
	for _, f := range files {
		if err := p.add(f.change(b.Host)); err != nil {
			return nil, err
		}
	}
	b.links(p)
	return p, nil
}

func (p *Plan) add(c Change, differs bool, err error) error {
	if differs {
		p.Changes = append(p.Changes, c)
	}
	return err
}

// program compares the image's firstboot with the one that it gets.
func (b *Bake) program(p *Plan) error {
	want, size, err := sumOfFile(b.Binary)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", b.Binary, err)
	}
	var seen string
	have, err := b.Host.SHA256(BinaryPath)
	switch {
	case host.NotExist(err):
		seen = absent
	case err != nil:
		return err
	case have != want:
		seen = "another build"
	default:
		if seen, err = wrongMode(b.Host, BinaryPath, 0o755); err != nil {
			return err
		}
	}
	return p.add(Change{
		Action: "write", Path: BinaryPath, Seen: seen, Size: size,
		apply: func(context.Context) error { return b.Host.InstallFile(b.Binary, BinaryPath, 0o755) },
	}, seen != "", nil)
}

// links enables the units as systemctl enable would, and lets a failure reach
// the login screen of a machine whose disk nothing was written to.
func (b *Bake) links(p *Plan) {
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

// look refuses a folder that is no image, or that this firstboot cannot serve.
func (b *Bake) look(p *Plan) error {
	if !b.Host.Exists("/etc/os-release") && !b.Host.Exists("/usr/lib/os-release") {
		return engine.WithHint(fmt.Errorf("cannot bake %s: it is no unpacked image (no /etc/os-release, no /usr/lib/os-release)", b.Host.Root()),
			"name the folder that holds the image's /usr and /etc")
	}
	for unit := range units.Enabled() {
		if b.Host.Readlink(units.AdminDir+"/"+unit) == "/dev/null" {
			return engine.WithHint(fmt.Errorf("cannot bake %s: %s is masked there", b.Host.Root(), unit),
				"systemctl --root %s unmask %s", b.Host.Root(), unit)
		}
	}
	if err := b.fits(p); err != nil {
		return err
	}
	b.lacks(p)
	if b.Host.Exists(state.EffectivePath) || b.Host.Exists(state.MarkerPath) {
		p.warn("firstboot has run in this image, and what it kept rules over a new configuration: firstboot seal --root %s", b.Host.Root())
	}
	return nil
}
