package minions

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// Package is the name of the plugin's RPM.
const Package = "eru-minions"

// rpmTimeout bounds one call of rpm. Measured: 24 s for an install on an
// emulated machine.
const rpmTimeout = 5 * time.Minute

// packageFormat is the format in which rpm prints a package: its name, version
// and release, and the digest of its header and files, "(none)" if it has none.
const packageFormat = `%{NAME}-%{VERSION}-%{RELEASE} %{SIGMD5}\n`

// Installed queries rpm's database for the package. It returns its name, version
// and release, a space, and its digest; or "" if it is not installed.
func Installed(ctx context.Context, h *host.Host) (string, error) {
	if lacksDatabase(ctx, h) {
		return "", nil
	}
	out, err := h.Query(ctx, host.Command{
		Name: "rpm", Args: []string{"-q", "--qf", packageFormat, Package}, Timeout: rpmTimeout,
	})
	if err == nil {
		return strings.TrimSpace(string(out.Stdout)), nil
	}
	var failed *host.CommandError
	if errors.As(err, &failed) && failed.ExitCode == 1 && strings.Contains(string(out.Stdout), "not installed") {
		return "", nil
	}
	return "", fmt.Errorf("cannot query rpm for %s: %w", Package, err)
}

// InFile returns the package in the file at path, as Installed does. It is "" if
// the file has no digest that shows whether this package is installed.
func InFile(ctx context.Context, h *host.Host, path string) string {
	out, err := h.Query(ctx, host.Command{Name: "rpm", Args: []string{"-qp", "--qf", packageFormat, path}, Timeout: rpmTimeout})
	id := strings.TrimSpace(string(out.Stdout))
	if err != nil || strings.HasSuffix(id, "(none)") {
		return ""
	}
	return id
}

// lacksDatabase reports whether rpm has no database yet. Even a query would then
// create one (measured with Debian's rpm, in root's home), and preflight must
// not write anything.
func lacksDatabase(ctx context.Context, h *host.Host) bool {
	if !usesDpkg(h) {
		return false
	}
	out, err := h.QueryOnce(ctx, host.Command{Name: "rpm", Args: []string{"--eval", "%_dbpath"}, Timeout: rpmTimeout})
	dir := strings.TrimSpace(string(out.Stdout))
	return err == nil && strings.HasPrefix(dir, "/") && !h.Exists(dir)
}

// Changed lists the package's files that have changed since its installation. It
// omits the configuration file, which firstboot overwrites. Without digests it reads
// only their sizes and modes.
func Changed(ctx context.Context, h *host.Host, digests bool) ([]string, error) {
	args := []string{"-V", "--nodeps", "--noscripts", "--nomtime", "--nouser", "--nogroup"}
	if !digests {
		args = append(args, "--nofiledigest")
	}
	out, err := h.Query(ctx, host.Command{Name: "rpm", Args: append(args, Package), Timeout: rpmTimeout})
	if err == nil {
		return nil, nil
	}
	if !hasCompared(ctx, out, err) {
		return nil, fmt.Errorf("cannot compare the files of %s with its package: %w", Package, err)
	}
	var changed []string
	for line := range strings.Lines(string(out.Stdout)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, ConfPath) {
			changed = append(changed, line)
		}
	}
	return changed, nil
}

// hasCompared reports whether an rpm that failed has compared all files: it has listed
// what has changed, and ended by itself. One that is killed may have listed some.
func hasCompared(ctx context.Context, out host.Output, err error) bool {
	var failed *host.CommandError
	return errors.As(err, &failed) && failed.ExitCode > 0 && failed.TimedOut == 0 && ctx.Err() == nil && strings.TrimSpace(string(out.Stdout)) != ""
}

// Stamps returns the stamps (host.Stamp) of the package's files, or nil if one cannot
// be read. It omits directories, and the configuration file, as Changed does.
func Stamps(h *host.Host, packaged []string) map[string]string {
	stamps := map[string]string{}
	for _, file := range packaged {
		if file == ConfPath {
			continue
		}
		info, err := h.Stat(file)
		if err != nil {
			return nil
		}
		if info.Mode().IsRegular() {
			stamps[file] = host.Stamp(info)
		}
	}
	return stamps
}

// Unchanged reports whether the files still have these stamps.
func Unchanged(h *host.Host, stamps map[string]string) bool {
	for file, stamp := range stamps {
		if info, err := h.Stat(file); err != nil || stamp == "" || host.Stamp(info) != stamp {
			return false
		}
	}
	return len(stamps) > 0
}

// LockedError means that another package manager holds rpm's transaction lock, for
// which rpm does not wait.
type LockedError struct {
	Holder string // such as "dnf (pid 7)"; "" if unknown
	Err    error
}

func (e *LockedError) Error() string { return e.Err.Error() }

func (e *LockedError) Unwrap() error { return e.Err }

// Install installs the package at path, or replaces the installed one by it. Its
// error is a *LockedError if another package manager is at work.
func Install(ctx context.Context, h *host.Host, path string) error {
	// -U installs or upgrades. --replacepkgs repairs an installation that a power
	// cut interrupted. --oldpackage allows a downgrade to an older pin.
	args := []string{"-U", "--replacepkgs", "--oldpackage"}
	if usesDpkg(h) {
		// On a host that uses dpkg, rpm's database is empty, so that rpm reports
		// even /bin/sh as missing.
		args = append(args, "--nodeps")
	}
	_, err := h.Run(ctx, host.Command{Name: "rpm", Args: append(args, path), Timeout: rpmTimeout})
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "transaction lock"):
		return &LockedError{Holder: lockHolder(h), Err: err}
	case strings.Contains(err.Error(), "cannot open Packages database"):
		err = errors.Join(err, repairDatabase(ctx, h))
	}
	return fmt.Errorf("cannot install %s: %w", Package, err)
}

// repairDatabase completes rpm's database. The first rpm on a host creates the
// database, even for a query. If that rpm is interrupted, by a power cut or its
// time limit, indexes are missing and every later rpm fails: "attempt to write
// a readonly database" (measured with rpm 4.18).
func repairDatabase(ctx context.Context, h *host.Host) error {
	_, err := h.Run(ctx, host.Command{Name: "rpm", Args: []string{"--initdb"}, Timeout: rpmTimeout})
	return err
}

// Verify checks that the file at path is the plugin's package for this machine's
// architecture, and its signature if key, the path of a public key on the
// machine, is not empty.
func Verify(h *host.Host, path, key string) error {
	if key != "" {
		if err := artifact.VerifySignature(path, h.RealPath(key)); err != nil {
			return engine.WithHint(err, "check that minions.signedBy is the key that signed the package")
		}
	}
	p, err := artifact.ReadPackage(path)
	if err != nil {
		return err
	}
	if p.Name != Package {
		return engine.WithHint(fmt.Errorf("the artifact is the package %s, not %s", p.Name, Package), "correct minions.url")
	}
	if arch := Architecture(); p.Arch != "noarch" && arch != "" && p.Arch != arch {
		return engine.WithHint(fmt.Errorf("the package is for %s, but this machine is %s", p.Arch, arch), "set minions.url to the package of this architecture")
	}
	return nil
}

// architectures maps Go's name of each architecture that Calico is built for to
// the name in RPM packages.
func architectures() map[string]string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "s390x": "s390x"}
}

// Architecture returns this machine's architecture as RPM packages name it. It is
// "" if Calico is not built for it.
func Architecture() string { return architectures()[runtime.GOARCH] }

// usesDpkg reports whether the host's own package manager is dpkg, not rpm.
func usesDpkg(h *host.Host) bool { return h.Exists("/var/lib/dpkg/status") }

// lockHolder returns the package manager that holds rpm's lock, or "".
func lockHolder(h *host.Host) string {
	locks, err := h.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(locks)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[1] != "POSIX" || fields[3] != "WRITE" {
			continue
		}
		data, err := h.ReadFile("/proc/" + fields[4] + "/comm")
		if name := strings.TrimSpace(string(data)); err == nil && packageManagers[name] {
			return fmt.Sprintf("%s (pid %s)", name, fields[4])
		}
	}
	return ""
}

// packageManagers are the programs that take rpm's lock.
var packageManagers = map[string]bool{
	"rpm": true, "yum": true, "dnf": true, "dnf5": true, "zypper": true, "packagekitd": true, "rpm-ostree": true,
}
