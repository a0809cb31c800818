package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
)

// minionsPackage is the RPM's name.
const minionsPackage = "eru-minions"

// rpmTimeout bounds one call of rpm. Measured: 24 s for an install on an
// emulated machine.
const rpmTimeout = 5 * time.Minute

// checkPackage adds a difference unless the configured RPM is installed and its
// files are unchanged.
func (s minions) checkPackage(ctx context.Context, f *engine.CheckResult) error {
	id, err := s.installedPackage(ctx)
	if err != nil {
		return err
	}
	installed, _, _ := strings.Cut(id, " ")
	if installed == "" {
		f.Add(engine.Difference{Object: "package " + minionsPackage, Actual: "not installed", Expected: "installed"})
		return nil
	}
	if want := s.wantedPackage(); want != "" && want != installed {
		f.Add(engine.Difference{Object: "package " + minionsPackage, Actual: installed, Expected: want})
		return nil
	}
	if s.checkOrigin(minionsName, "package "+installed, id, f); !f.OK() {
		return nil
	}
	for _, changed := range s.verifyPackage(ctx) {
		f.Add(engine.Difference{Object: "package " + minionsPackage, Actual: changed, Expected: "as packaged"})
	}
	return nil
}

// packageFormat is the format in which rpm prints a package: its name, version
// and release, and the digest of its header and files, "(none)" if it has none.
const packageFormat = `%{NAME}-%{VERSION}-%{RELEASE} %{SIGMD5}\n`

// installedPackage queries rpm's database. It returns the package in
// packageFormat, or "" if it is not installed.
func (s minions) installedPackage(ctx context.Context) (string, error) {
	if s.lacksDatabase(ctx) {
		return "", nil
	}
	out, err := s.Host.Query(ctx, host.Command{
		Name: "rpm", Args: []string{"-q", "--qf", packageFormat, minionsPackage}, Timeout: rpmTimeout,
	})
	if err == nil {
		return strings.TrimSpace(string(out.Stdout)), nil
	}
	var failed *host.CommandError
	if errors.As(err, &failed) && failed.ExitCode == 1 && strings.Contains(string(out.Stdout), "not installed") {
		return "", nil
	}
	return "", fmt.Errorf("cannot query rpm for %s: %w", minionsPackage, err)
}

// packageOf returns the package in the file at path in packageFormat. It is "" if
// the file has no digest that shows whether this package is installed.
func (s minions) packageOf(ctx context.Context, path string) string {
	out, err := s.Host.Query(ctx, host.Command{Name: "rpm", Args: []string{"-qp", "--qf", packageFormat, path}, Timeout: rpmTimeout})
	id := strings.TrimSpace(string(out.Stdout))
	if err != nil || strings.HasSuffix(id, "(none)") {
		return ""
	}
	return id
}

// lacksDatabase reports whether rpm has no database yet. Even a query would then
// create one (measured with Debian's rpm, in root's home), and preflight must
// not write anything.
func (s minions) lacksDatabase(ctx context.Context) bool {
	if !s.usesDpkg() {
		return false
	}
	out, err := s.Host.Query(ctx, host.Command{Name: "rpm", Args: []string{"--eval", "%_dbpath"}, Timeout: rpmTimeout})
	dir := strings.TrimSpace(string(out.Stdout))
	return err == nil && strings.HasPrefix(dir, "/") && !s.Host.Exists(dir)
}

// localPackage returns the path of the RPM in the cache or a bundle, if it is
// there.
func (s minions) localPackage() (path string, ok bool) {
	ref := s.reference(minionsName)
	if path, ok = s.Store.Lookup(ref); ok || ref.SHA256 != "" || ref.URL != "" {
		return path, ok
	}
	path, err := s.Store.Bundled(minionsName)
	return path, err == nil
}

// wantedPackage returns NAME-VERSION-RELEASE of the RPM in the cache or a
// bundle, "" if there is no readable one.
func (s minions) wantedPackage() string {
	path, ok := s.localPackage()
	if !ok {
		return ""
	}
	p, err := artifact.ReadPackage(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s-%s-%s", p.Name, p.Version, p.Release)
}

// verifyPackage lists the package's files that have changed since its
// installation. It omits the configuration file, which this stage overwrites.
func (s minions) verifyPackage(ctx context.Context) []string {
	out, err := s.Host.Query(ctx, host.Command{
		Name: "rpm", Args: []string{"-V", "--nodeps", "--noscripts", "--nomtime", "--nouser", "--nogroup", minionsPackage}, Timeout: rpmTimeout,
	})
	if err == nil {
		return nil
	}
	var changed []string
	for line := range strings.Lines(string(out.Stdout)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, minionsConfPath) {
			changed = append(changed, line)
		}
	}
	return changed
}

func (s minions) install(ctx context.Context, report engine.Progress) error {
	path, err := s.getArtifact(ctx, minionsName, report)
	if err != nil {
		return err
	}
	if err := s.verifyArtifact(path); err != nil {
		return errors.Join(err, s.removeUnpinned())
	}
	if id, err := s.installedPackage(ctx); err == nil && id != "" && id == s.packageOf(ctx, path) && len(s.verifyPackage(ctx)) == 0 {
		return s.recordOrigin(ctx, minionsName, path, id, time.Time{})
	}
	report("installing "+minionsPackage, 0, 0)
	if err := s.runInstall(ctx, path); err != nil {
		return err
	}
	id, err := s.installedPackage(ctx)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	return s.recordOrigin(ctx, minionsName, path, id, time.Now())
}

// runInstall installs the package at path, or replaces the installed one by it.
func (s minions) runInstall(ctx context.Context, path string) error {
	// -U installs or upgrades. --replacepkgs repairs an installation that a power
	// cut interrupted. --oldpackage allows a downgrade to an older pin.
	args := []string{"-U", "--replacepkgs", "--oldpackage"}
	if s.usesDpkg() {
		// On a host that uses dpkg, rpm's database is empty, so that rpm reports
		// even /bin/sh as missing.
		args = append(args, "--nodeps")
	}
	_, err := s.Host.Run(ctx, host.Command{Name: "rpm", Args: append(args, path), Timeout: rpmTimeout})
	if err == nil {
		return nil
	}
	if holder, held := s.transactionLock(err); held {
		return &engine.Wait{For: "rpm's transaction lock" + holder, Err: err}
	}
	if strings.Contains(err.Error(), "cannot open Packages database") {
		err = errors.Join(err, s.repairDatabase(ctx))
	}
	return &engine.Retry{Err: fmt.Errorf("cannot install %s: %w", minionsPackage, err)}
}

// repairDatabase completes rpm's database. The first rpm on a host creates the
// database, even for a query. If that rpm is interrupted, by a power cut or its
// time limit, indexes are missing and every later rpm fails: "attempt to write
// a readonly database" (measured with rpm 4.18).
func (s minions) repairDatabase(ctx context.Context) error {
	_, err := s.Host.Run(ctx, host.Command{Name: "rpm", Args: []string{"--initdb"}, Timeout: rpmTimeout})
	return err
}

// removeUnpinned removes a package without a pinned digest from the cache, so
// that the right one is fetched once the URL serves it.
func (s minions) removeUnpinned() error {
	ref := s.reference(minionsName)
	if ref.SHA256 != "" || ref.URL == "" {
		return nil
	}
	return s.Store.Remove(ref)
}

// verifyArtifact checks the signature if minions.signedBy is set, and that the
// file is the eru-minions package for this machine's architecture.
func (s minions) verifyArtifact(path string) error {
	if key := s.Config.Minions.SignedBy; key != "" {
		if err := artifact.VerifySignature(path, s.Host.RealPath(key)); err != nil {
			return engine.WithHint(err, "check that minions.signedBy is the key that signed the package")
		}
	}
	p, err := artifact.ReadPackage(path)
	if err != nil {
		return err
	}
	if p.Name != minionsPackage {
		return engine.WithHint(fmt.Errorf("the artifact is the package %s, not %s", p.Name, minionsPackage), "correct minions.url")
	}
	if arch := rpmArchitecture(); p.Arch != "noarch" && arch != "" && p.Arch != arch {
		return engine.WithHint(fmt.Errorf("the package is for %s, but this machine is %s", p.Arch, arch), "set minions.url to the package of this architecture")
	}
	return nil
}

// usesDpkg reports whether the host's own package manager is dpkg, not rpm.
func (e *Env) usesDpkg() bool { return e.Host.Exists("/var/lib/dpkg/status") }

// transactionLock reports whether rpm failed because another package manager
// holds its lock, and returns the holder. rpm does not wait for the lock.
func (s minions) transactionLock(err error) (holder string, held bool) {
	if !strings.Contains(err.Error(), "transaction lock") {
		return "", false
	}
	locks, readErr := s.Host.ReadFile("/proc/locks")
	if readErr != nil {
		return "", true
	}
	for line := range strings.Lines(string(locks)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[1] != "POSIX" || fields[3] != "WRITE" {
			continue
		}
		name, readErr := s.Host.ReadFile("/proc/" + fields[4] + "/comm")
		if text := strings.TrimSpace(string(name)); readErr == nil && packageManagers[text] {
			return fmt.Sprintf(", held by %s (pid %s)", text, fields[4]), true
		}
	}
	return "", true
}

// packageManagers are the programs that take rpm's lock.
var packageManagers = map[string]bool{
	"rpm": true, "yum": true, "dnf": true, "dnf5": true, "zypper": true, "packagekitd": true, "rpm-ostree": true,
}
