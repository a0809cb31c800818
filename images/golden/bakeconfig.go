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

// configuration validates what the image's hosts will read, and lists the
// files that it needs for that. loaded is nil where the configuration comes
// later.
func (b *Bake) configuration(ctx context.Context, p *Plan) (*config.Loaded, []File, error) {
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
			return nil, nil, engine.WithHint(err, "name one with --config, or say --no-config if it comes by user-data or the kernel's command line")
		}
		return nil, nil, err
	}
	for _, w := range loaded.Warnings {
		p.warn("%s", w.Error())
	}
	return loaded, files, nil
}

// configFiles are the given files where they go in the image: the first is its
// main file, each further one a drop-in, so that later ones win there too.
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
		hidden := config.MayHoldSecrets(config.Source{Name: name, Data: data})
		files = append(files, File{Path: path, Data: data, Mode: mode, Hidden: hidden})
	}
	return files, nil
}

// readConfig reads a configuration file; in the image nobody but root may
// change it, and nobody may read it who may not read it here.
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
		return fail(engine.WithHint(errors.New("it is no regular file"), "write it to a file first: it is read more than once"))
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

// sources are the files that a host with this image will read, in order: what
// the image has of its own, with the new ones in their places.
func (b *Bake) sources(files []File) ([]string, error) {
	own := func(dir string) ([]string, error) {
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
	vendor, err := own(config.VendorDir)
	if err != nil {
		return nil, err
	}
	local, err := own(config.DropInDir)
	if err != nil {
		return nil, err
	}
	from := map[string]string{} // path in the image → path here
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
