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

// lock prints the configuration with its digests, or updates its files.
func (c *cli) lock(ctx context.Context, h *host.Host, loaded *config.Loaded, artifacts []golden.Artifact, b *artifact.Bundle, out bundleResult, write bool) error {
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
		if _, err := c.imageConfig(ctx, false); err != nil {
			return hint(err, "a digest is still missing, or a later source sets it to an empty value")
		}
	}
	if c.json() {
		return c.printJSON(out)
	}
	return c.printLock(out, files, write)
}

// printLock prints the new files to stdout and everything else to stderr, so that
// stdout can be redirected to a file.
func (c *cli) printLock(b bundleResult, files []golden.LockedFile, written bool) error {
	toStderr := &cli{out: c.errs, errs: c.errs}
	if err := toStderr.printBundle(b); err != nil {
		return err
	}
	for _, p := range b.Locked {
		fmt.Fprintf(c.errs, "locked %s: %s in %s\n", p.Key, p.SHA256, p.File)
	}
	if len(b.Locked) == 0 {
		fmt.Fprintln(c.errs, "nothing to lock: every url has a sha256")
	}
	for _, f := range files {
		switch {
		case written:
			fmt.Fprintf(c.errs, "written: %s\n", f.Name)
		case f.Secret:
			fmt.Fprintf(c.errs, "%s holds secrets and is not printed; --write updates it\n", f.Name)
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

// sourcePath returns the path of a configuration file: as --config names it,
// else below the root directory.
func (c *cli) sourcePath(h *host.Host, name string) string {
	if len(c.files) > 0 || !filepath.IsAbs(name) {
		return name
	}
	return h.RealPath(name)
}
