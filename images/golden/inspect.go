package golden

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/engine"
)

// RefusedError is a fetched file that is not the artifact that its url names.
type RefusedError struct {
	Name string // the artifact's
	Err  error  // why the file is refused
	hint string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("cannot use %s: %v", e.Name, e.Err) }

func (e *RefusedError) Unwrap() error { return e.Err }

// Hint returns what a person can do.
func (e *RefusedError) Hint() string { return e.hint }

// inspect examines a file for problems that every host would have, and sets its
// version. A file that no host can use is refused, even if the configuration pins its
// digest.
func (c *Collector) inspect(ctx context.Context, a Artifact, r *result) error {
	warn := func(format string, args ...any) {
		r.warnings = append(r.warnings, a.Name+": "+fmt.Sprintf(format, args...))
	}
	var err error
	switch a.Name {
	case calicoctl:
		err = c.inspectCalicoctl(ctx, r, warn)
	case nodeImage:
		err = c.inspectImage(r.item.Path, warn)
	case minions:
		if err := c.verifySignature(r.item.Path); err != nil {
			return err
		}
		err = c.inspectPackage(r)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	hint := fmt.Sprintf("check %s.url: the file may be an error page, or for another architecture", a.Section)
	switch {
	case errors.Is(err, errVersion):
		hint = fmt.Sprintf("correct %[1]s, or %[2]s.url and %[2]s.sha256", versionKey(a.Name), a.Section)
	case a.SHA256 != "":
		hint = fmt.Sprintf("correct %[1]s.url and %[1]s.sha256: the file may be an error page, or for another architecture", a.Section)
	}
	return errors.Join(&RefusedError{a.Name, err, hint}, c.Store.Remove(a.Ref))
}

// errVersion is part of the error of a file that is another version than the
// configuration's.
var errVersion = errors.New("hosts refuse it")

// versionKey returns the key of an artifact's version.
func versionKey(name string) string {
	if name == nodeImage {
		return "node.image"
	}
	return name + ".version"
}

// inspectCalicoctl runs the program to get its version, unless it is for
// another architecture than this machine.
func (c *Collector) inspectCalicoctl(ctx context.Context, r *result, warn func(string, ...any)) error {
	built, _, err := architecture(r.item.Path)
	if err != nil {
		return errors.New("the file is not a Linux executable")
	}
	if c.Architecture != "" && built != c.Architecture {
		return fmt.Errorf("the file is built for %s, but the hosts are %s", built, c.Architecture)
	}
	if own, _, err := architecture("/proc/self/exe"); err != nil || own != built {
		warn("its version was not checked: this machine cannot run a program for %s", built)
		return nil //nolint:nilerr // the warning reports it
	}
	version, err := c.runCalicoctl(ctx, r.item.Path)
	if err != nil {
		return fmt.Errorf("the file is not a calicoctl: %w", err)
	}
	if r.item.Version != "" && version != r.item.Version {
		return fmt.Errorf("the file is calicoctl %s, but calicoctl.version is %s: %w", version, r.item.Version, errVersion)
	}
	r.item.Version = version
	return nil
}

// runCalicoctl returns the version that an executable copy of the file prints.
func (c *Collector) runCalicoctl(ctx context.Context, path string) (string, error) {
	dir, err := os.MkdirTemp("", "firstboot-calicoctl")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, calicoctl)
	if err := copyProgram(path, program); err != nil {
		return "", err
	}
	return c.CalicoctlVersion(ctx, program)
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// inspectImage compares the image names in the archive with node.image.
func (c *Collector) inspectImage(path string, warn func(string, ...any)) error {
	want := c.Config.Node.Image
	archive, err := artifact.ReadImageArchive(path)
	if err != nil {
		return withoutHint(err)
	}
	if strings.Contains(want, "@") {
		warn("the archive holds %s, and an archive has no digest of %s", strings.Join(archive.Tags, ", "), want)
		return nil
	}
	if !slices.ContainsFunc(archive.Tags, func(tag string) bool { return dockerd.SameImage(tag, want) }) {
		return fmt.Errorf("the archive holds %s, but node.image is %s: %w", strings.Join(archive.Tags, ", "), want, errVersion)
	}
	return nil
}

// verifySignature checks the package's signature, if the configuration names a
// key.
func (c *Collector) verifySignature(path string) error {
	key := c.Config.Minions.SignedBy
	if key == "" {
		return nil
	}
	if err := artifact.VerifySignature(path, c.KeyPath(key)); err != nil {
		return engine.WithHint(err, "is minions.signedBy (%s) the key that the package was signed with?", key)
	}
	return nil
}

// inspectPackage takes the package's version.
func (c *Collector) inspectPackage(r *result) error {
	p, err := artifact.ReadPackage(r.item.Path)
	switch {
	case err != nil:
		return withoutHint(err)
	case p.Name != minions:
		return fmt.Errorf("the file is the package %s", p.Name)
	case c.Architecture != "" && p.Arch != "noarch" && rpmArchitecture(p.Arch) != c.Architecture:
		return fmt.Errorf("the package is for %s, but the hosts are %s", p.Arch, c.Architecture)
	}
	r.item.Version = fmt.Sprintf("%s-%s", p.Version, p.Release)
	return nil
}

// withoutHint drops the hint of an error, which names another cause than the
// url.
func withoutHint(err error) error { return errors.New(err.Error()) }

// Architecture returns how this package names a Go architecture, and whether it
// is one that firstboot supports.
func Architecture(goarch string) (string, bool) {
	machine, ok := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[goarch]
	return architectureName(machine, elf.ELFCLASS64), ok
}

// rpmArchitecture returns how this package names an RPM's architecture.
func rpmArchitecture(arch string) string {
	name, _ := Architecture(map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[arch])
	return name
}
