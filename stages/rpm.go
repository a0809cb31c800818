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

// rpmTime bounds one call of rpm. Measured: 24 s for an install on an
// emulated machine.
const rpmTime = 5 * time.Minute

// checkPackage adds a difference unless the RPM is installed, whole, and the
// one that the configuration names.
func (s minions) checkPackage(ctx context.Context, f *engine.CheckResult) error {
	installed, err := s.installedPackage(ctx)
	if err != nil {
		return err
	}
	if installed == "" {
		f.Add(engine.Difference{Object: "package " + minionsPackage, Actual: "not installed", Expected: "installed"})
		return nil
	}
	if want := s.wantedPackage(); want != "" && want != installed {
		f.Add(engine.Difference{Object: "package " + minionsPackage, Actual: installed, Expected: want})
		return nil
	}
	for _, damage := range s.verifyPackage(ctx) {
		f.Add(engine.Difference{Object: "package " + minionsPackage, Actual: damage, Expected: "as packaged"})
	}
	return nil
}

// installedPackage asks rpm's database: NAME-VERSION-RELEASE, or "" where the
// package is not installed.
func (s minions) installedPackage(ctx context.Context) (string, error) {
	if s.noDatabase(ctx) {
		return "", nil
	}
	out, err := s.Host.Query(ctx, host.Command{
		Name: "rpm", Args: []string{"-q", "--qf", `%{NAME}-%{VERSION}-%{RELEASE}\n`, minionsPackage}, Timeout: rpmTime,
	})
	if err == nil {
		return strings.TrimSpace(string(out.Stdout)), nil
	}
	var failed *host.CommandError
	if errors.As(err, &failed) && failed.ExitCode == 1 && strings.Contains(string(out.Stdout), "not installed") {
		return "", nil
	}
	return "", fmt.Errorf("cannot ask rpm for %s: %w", minionsPackage, err)
}

// noDatabase tells a host on which rpm has never installed anything: there a
// mere question would make a database (measured with Debian's, in root's home),
// and preflight must not write.
func (s minions) noDatabase(ctx context.Context) bool {
	if !s.usesDpkg() {
		return false
	}
	out, err := s.Host.Query(ctx, host.Command{Name: "rpm", Args: []string{"--eval", "%_dbpath"}, Timeout: rpmTime})
	dir := strings.TrimSpace(string(out.Stdout))
	return err == nil && strings.HasPrefix(dir, "/") && !s.Host.Exists(dir)
}

// localPackage is the path of the artifact, if it is there without a fetch.
func (s minions) localPackage() (path string, ok bool) {
	ref := s.reference(minionsName)
	if path, ok = s.Store.Lookup(ref); ok || ref.SHA256 != "" || ref.URL != "" {
		return path, ok
	}
	path, err := s.Store.Bundled(minionsName)
	return path, err == nil
}

// wantedPackage is the package that the artifact carries, if it is at hand;
// "" where that cannot be told.
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

// verifyPackage lists the files that are not as the package brought them; its
// configuration file is not one of them: that one is written afterwards.
func (s minions) verifyPackage(ctx context.Context) []string {
	out, err := s.Host.Query(ctx, host.Command{
		Name: "rpm", Args: []string{"-V", "--nodeps", "--noscripts", "--nomtime", "--nouser", "--nogroup", minionsPackage}, Timeout: rpmTime,
	})
	if err == nil {
		return nil
	}
	var damage []string
	for line := range strings.Lines(string(out.Stdout)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, minionsConfPath) {
			damage = append(damage, line)
		}
	}
	return damage
}

func (s minions) install(ctx context.Context, report engine.Progress) error {
	path, err := s.getArtifact(ctx, minionsName, report)
	if err != nil {
		return err
	}
	if err := s.verifyArtifact(path); err != nil {
		return errors.Join(err, s.forget())
	}
	report("installing "+minionsPackage, 0, 0)
	// -U installs, replaces and repairs; --replacepkgs repairs an install
	// that a power cut ended, --oldpackage follows a pin backwards.
	args := []string{"-U", "--replacepkgs", "--oldpackage"}
	if s.usesDpkg() {
		// On a host of Debian's packages rpm's database is empty, and even
		// /bin/sh counts as missing.
		args = append(args, "--nodeps")
	}
	_, err = s.Host.Run(ctx, host.Command{Name: "rpm", Args: append(args, path), Timeout: rpmTime})
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

// repairDatabase makes what rpm's database lacks. The first rpm of a host makes
// it, by question or installation; one that was ended in the middle, by a power
// cut or its time limit, leaves indexes missing, and every later rpm only
// complains: "attempt to write a readonly database" (measured with rpm 4.18).
func (s minions) repairDatabase(ctx context.Context) error {
	_, err := s.Host.Run(ctx, host.Command{Name: "rpm", Args: []string{"--initdb"}, Timeout: rpmTime})
	return err
}

// forget takes a package that no sum pins out of the cache: once the right one
// lies at the url it must be fetched.
func (s minions) forget() error {
	ref := s.reference(minionsName)
	if ref.SHA256 != "" || ref.URL == "" {
		return nil
	}
	return s.Store.Remove(ref)
}

// verifyArtifact checks the signature, where the configuration wants one, and
// that the file is the package and for this machine.
func (s minions) verifyArtifact(path string) error {
	if key := s.Config.Minions.SignedBy; key != "" {
		if err := artifact.VerifySignature(path, s.Host.RealPath(key)); err != nil {
			return engine.WithHint(err, "is minions.signedBy the key that the package was signed with?")
		}
	}
	p, err := artifact.ReadPackage(path)
	if err != nil {
		return err
	}
	if p.Name != minionsPackage {
		return engine.WithHint(fmt.Errorf("the artifact is the package %s, not %s", p.Name, minionsPackage), "set minions.url right")
	}
	if arch := rpmArchitecture(); p.Arch != "noarch" && arch != "" && p.Arch != arch {
		return engine.WithHint(fmt.Errorf("the package is for %s, this machine is %s", p.Arch, arch), "set minions.url to the package of this architecture")
	}
	return nil
}

// usesDpkg tells a host whose own packages are not RPMs.
func (e *Env) usesDpkg() bool { return e.Host.Exists("/var/lib/dpkg/status") }

// transactionLock tells whether rpm failed because another rpm is at work,
// and who that is: rpm does not wait, it ends at once.
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

// packageManagers are the programs that hold rpm's lock.
var packageManagers = map[string]bool{
	"rpm": true, "yum": true, "dnf": true, "dnf5": true, "zypper": true, "packagekitd": true, "rpm-ostree": true,
}
