package golden

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/units"
)

//go:embed install.go
var installSources embed.FS

const (
	binaryPath = "/usr/bin/firstboot"
	configPath = "/etc/firstboot/config.yaml"
	bundlePath = "/usr/lib/firstboot/bundle"
	keysPath   = "/root/.ssh/authorized_keys"
)

// withFirstboot derives an image with firstboot, its configuration and its
// bundle installed.
func (o Options) withFirstboot(ctx context.Context, base Image) (Image, error) {
	inputs, err := o.installInputs()
	if err != nil {
		return Image{}, err
	}
	key, err := sourceKey(installSources, inputs...)
	if err != nil {
		return Image{}, err
	}
	return Derive(ctx, o.Store, base, "golden", []string{key}, o.install)
}

func (o Options) installInputs() ([]string, error) {
	binary, err := cache.Contents(o.Firstboot)
	if err != nil {
		return nil, err
	}
	inputs := []string{binary, string(o.Config), string(o.AuthorizedKey)}
	for _, item := range o.Bundle {
		contents, err := cache.Contents(item.Path)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, item.Name, item.Version, contents)
	}
	for _, f := range slices.Concat(o.Files, unitFiles()) {
		inputs = append(inputs, f.Path, string(f.Data), f.Mode.String())
	}
	return inputs, nil
}

// install writes firstboot's files into the image's mounted root.
func (o Options) install(ctx context.Context, root string) error {
	binary, err := os.ReadFile(o.Firstboot)
	if err != nil {
		return err
	}
	files := []File{
		{Path: binaryPath, Data: binary, Mode: 0o755},
		{Path: configPath, Data: o.Config, Mode: 0o600},
	}
	for _, f := range slices.Concat(files, unitFiles(), o.Files) {
		if err := writeFile(root, f); err != nil {
			return err
		}
	}
	if err := AuthorizeKey(root, o.AuthorizedKey); err != nil {
		return err
	}
	if len(o.Bundle) > 0 {
		if _, err := artifact.WriteBundle(ctx, filepath.Join(root, bundlePath), o.Bundle); err != nil {
			return err
		}
	}
	return enableUnits(root)
}

// AuthorizeKey allows the owner of the public key to log in as root by SSH.
func AuthorizeKey(root string, line []byte) error {
	if err := writeFile(root, File{Path: keysPath, Data: line, Mode: 0o600}); err != nil {
		return err
	}
	return os.Chmod(filepath.Dir(filepath.Join(root, keysPath)), 0o700)
}

func unitFiles() []File {
	var list []File
	for _, f := range units.ImageFiles() {
		list = append(list, File{Path: f.Path, Data: f.Data})
	}
	return list
}

// enableUnits creates the symbolic links that `systemctl enable` would create.
func enableUnits(root string) error {
	var all []error
	for unit, target := range units.Enabled() {
		wants := filepath.Join(root, units.AdminDir, target+".wants")
		err := os.MkdirAll(wants, 0o755)
		if err == nil {
			err = os.Symlink(filepath.Join(units.Dir, unit), filepath.Join(wants, unit))
		}
		if err != nil {
			all = append(all, fmt.Errorf("cannot enable %s: %w", unit, err))
		}
	}
	return errors.Join(all...)
}
