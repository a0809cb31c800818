package golden

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
)

// loadConfig validates the configuration that the image's hosts will read, and
// returns the files to install for it. The configuration is nil with NoConfig.
func (b *Bake) loadConfig(ctx context.Context, p *Plan) (*config.Loaded, []File, error) {
	if b.NoConfig {
		return nil, nil, nil
	}
	o := config.Options{Root: b.Host.Root(), NoCmdline: true}
	files, err := b.configFiles()
	if err != nil {
		return nil, nil, err
	}
	if len(b.Config) > 0 {
		if o.Files, err = b.sources(files); err != nil {
			return nil, nil, err
		}
	}
	loaded, err := config.Load(ctx, o)
	if err != nil {
		if _, invalid := config.IsInvalid(err); invalid && len(b.Config) == 0 {
			return nil, nil, engine.WithHint(err, "name one with --config, or use --no-config if it is provided by user-data or the kernel command line")
		}
		return nil, nil, err
	}
	for _, w := range loaded.Warnings {
		p.warn("%s", w.Error())
	}
	return loaded, files, nil
}

// configFiles returns the files of --config with their paths in the image. The
// first is the main file and each further one a drop-in, so that later files win.
func (b *Bake) configFiles() ([]File, error) {
	var files []File
	for i, name := range b.Config {
		data, mode, err := readConfig(name)
		if err != nil {
			return nil, err
		}
		path := config.MainFile
		if i > 0 {
			base := strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
			path = fmt.Sprintf("%s/%02d-%s.yaml", config.DropInDir, 10*i, base)
		}
		secret := config.MayHoldSecrets(config.Source{Name: name, Data: data})
		files = append(files, File{Path: path, Data: data, Mode: mode, Secret: secret})
	}
	return files, nil
}

// readConfig reads a configuration file. In the image only root may write it,
// and only those who can read it here may read it.
func readConfig(name string) (data []byte, mode os.FileMode, err error) {
	fail := func(err error) ([]byte, os.FileMode, error) {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, 0, fmt.Errorf("cannot read %s: %w", name, err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return fail(err)
	}
	if !info.Mode().IsRegular() {
		return fail(engine.WithHint(errors.New("not a regular file"), "write it to a file first: firstboot reads it more than once"))
	}
	f, err := os.Open(name)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	if data, err = io.ReadAll(io.LimitReader(f, config.MaxSource+1)); err != nil {
		return fail(err)
	}
	return data, info.Mode().Perm()&0o044 | 0o600, nil
}

// sources returns the configuration files that a host with this image will read,
// in order: the image's own files, with files added or replaced.
func (b *Bake) sources(files []File) ([]string, error) {
	existing := func(dir string) ([]string, error) {
		names, err := b.Host.ReadDir(dir)
		var paths []string
		for _, name := range names {
			path := dir + "/" + name
			replaced := slices.ContainsFunc(files, func(f File) bool { return f.Path == path })
			if filepath.Ext(name) == ".yaml" && !strings.HasPrefix(name, ".") && !replaced {
				paths = append(paths, path)
			}
		}
		return paths, err
	}
	vendor, err := existing(config.VendorDir)
	if err != nil {
		return nil, err
	}
	local, err := existing(config.DropInDir)
	if err != nil {
		return nil, err
	}
	from := map[string]string{} // path in the image → path on this machine
	for _, path := range slices.Concat(vendor, local) {
		from[path] = b.Host.RealPath(path)
	}
	for i, f := range files {
		from[f.Path] = b.Config[i]
		if i > 0 {
			local = append(local, f.Path)
		}
	}
	slices.Sort(local)
	var all []string
	for _, path := range slices.Concat(vendor, []string{config.MainFile}, local) {
		all = append(all, from[path])
	}
	return all, nil
}
