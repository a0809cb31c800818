package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
)

// lock shows the configuration with its sums, or writes it back.
func (c *cli) lock(h *host.Host, loaded *config.Loaded, artifacts []golden.Artifact, b *artifact.Bundle, out bundled, write bool) error {
	pins, files, err := golden.Lock(loaded, artifacts, b, func(name string) ([]byte, error) { return os.ReadFile(c.sourcePath(h, name)) })
	if err != nil {
		return err
	}
	out.Locked = append([]golden.Pin{}, pins...)
	if write {
		for _, f := range files {
			if err := golden.Rewrite(c.sourcePath(h, f.Name), f.Text); err != nil {
				return err
			}
		}
		if _, err := c.imageConfig(context.Background(), false); err != nil {
			return hint(err, "a sum is still missing, or is set to nothing by a later source")
		}
	}
	if c.json() {
		return c.print(out)
	}
	return c.showLock(out, files, write)
}

// showLock prints the new texts on stdout and everything else on stderr, so
// that the one can be kept without the other.
func (c *cli) showLock(b bundled, files []golden.LockedFile, written bool) error {
	shown := &cli{out: c.errs, errs: c.errs}
	if err := shown.showBundle(b); err != nil {
		return err
	}
	for _, p := range b.Locked {
		fmt.Fprintf(c.errs, "locked %s: %s in %s\n", p.Key, p.SHA256, p.File)
	}
	if len(b.Locked) == 0 {
		fmt.Fprintln(c.errs, "nothing to lock: every url has its sha256")
	}
	for _, f := range files {
		switch {
		case written:
			fmt.Fprintf(c.errs, "written: %s\n", f.Name)
		case f.Secret:
			fmt.Fprintf(c.errs, "%s holds secrets and is not shown; --write writes it back\n", f.Name)
		default:
			if len(files) > 1 {
				fmt.Fprintf(c.out, "# %s\n", f.Name)
			}
			if _, err := c.out.Write(f.Text); err != nil {
				return err
			}
		}
	}
	return nil
}

// sourcePath is the file of a configuration's source: as named by --config,
// else below the root.
func (c *cli) sourcePath(h *host.Host, name string) string {
	if len(c.files) > 0 || !filepath.IsAbs(name) {
		return name
	}
	return h.RealPath(name)
}
