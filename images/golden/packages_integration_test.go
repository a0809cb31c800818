//go:build integration

package golden

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/test/boottest"
	"github.com/projecteru2/firstboot/units"
)

// command runs a program that must go well.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"+os.Getenv("PATH"))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// packages builds the packages as make packages does.
func packages(t *testing.T) (deb, rpm string) {
	t.Helper()
	dir := t.TempDir()
	command(t, "../packages/build.sh", dir)
	find := func(pattern string) string {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		return found[0]
	}
	return find("*.deb"), find("*.rpm")
}

// isEnabled asks systemctl of an image's units.
func isEnabled(t *testing.T, root string) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "systemctl", "--root="+root, "is-enabled", units.Service, units.Target).CombinedOutput()
	switch strings.TrimSpace(string(out)) {
	case "enabled\nenabled":
		return true
	case "disabled\ndisabled":
		return false
	}
	t.Fatalf("systemctl is-enabled: %v\n%s", err, out)
	return false
}

// into puts a file into an image, for a program that runs inside it.
func into(t *testing.T, root, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "/root", filepath.Base(file)), string(data), 0o644)
	return "/root/" + filepath.Base(file)
}

// edited is a default configuration that its owner has filled in.
func edited(t *testing.T, root string) {
	t.Helper()
	path := root + "/etc/firstboot/config.yaml"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the default configuration: %v, %v; want mode 600", info.Mode(), err)
	}
	// As the file's head says: take the marks off.
	var out []string
	for line := range strings.Lines(string(text)) {
		for _, key := range []string{"# etcd:", "#   endpoints:", "#     - http://10.0.0.1", "# pool:", "#   cidr:"} {
			if strings.HasPrefix(line, key) {
				line = strings.TrimPrefix(line, "# ")
			}
		}
		out = append(out, line)
	}
	write(t, path, strings.Join(out, ""), 0o600)
	command(t, root+"/usr/bin/firstboot", "validate", "--root", root)
}

// keepsEdits tells whether a configuration is still the owner's.
func keepsEdits(t *testing.T, root string) {
	t.Helper()
	text, err := os.ReadFile(root + "/etc/firstboot/config.yaml")
	if err != nil || !strings.Contains(string(text), "\netcd:\n") {
		t.Errorf("the owner's configuration is gone: %v\n%s", err, text)
	}
}

// freshlyInstalled is what both packages must give.
func freshlyInstalled(t *testing.T, m *boottest.Machine) {
	t.Helper()
	if !isEnabled(t, m.Root) {
		t.Error("the units are not enabled")
	}
	out, err := exec.CommandContext(t.Context(), m.Root+"/usr/bin/firstboot", "validate", "--root", m.Root).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/etc/firstboot/config.yaml:1:1: etcd.endpoints: is required") {
		t.Errorf("the default configuration says nothing is missing: %v\n%s", err, out)
	}
	if target, err := os.Readlink(m.Root + "/etc/issue.d/firstboot.issue"); target != "/run/issue.d/firstboot.issue" {
		t.Errorf("issue: %q, %v", target, err)
	}
	p, err := (&Bake{
		Host: imageHost(m.Root), Binary: m.Root + "/usr/bin/firstboot", NoConfig: true, NoBundle: true,
	}).Plan(t.Context())
	if err != nil || len(p.Changes) > 0 {
		t.Errorf("a bake would still change %v, %v", p, err)
	}
	edited(t, m.Root)
}

func TestPackages(t *testing.T) {
	deb, rpm := packages(t)
	t.Run("the deb bakes an image", func(t *testing.T) { debBakes(t, deb) })
	t.Run("the rpm bakes an image", func(t *testing.T) { rpmBakes(t, rpm) })
	t.Run("the rpm goes into an empty folder", func(t *testing.T) { rpmIntoNothing(t, rpm) })
	t.Run("both bring the same", func(t *testing.T) { bringTheSame(t, deb, rpm) })
	t.Run("one commit gives the same bytes", func(t *testing.T) { sameBytes(t, deb, rpm) })
}

func debBakes(t *testing.T, deb string) {
	m := boottest.New(t, nil)
	inside := into(t, m.Root, deb)
	command(t, "chroot", m.Root, "dpkg", "-i", inside)
	freshlyInstalled(t, m)

	// A new install decides; an upgrade leaves what the owner decided.
	command(t, "systemctl", "--root="+m.Root, "disable", units.Service, units.Target)
	command(t, "chroot", m.Root, "dpkg", "-i", inside)
	if isEnabled(t, m.Root) {
		t.Error("the upgrade enabled what its owner had disabled")
	}
	keepsEdits(t, m.Root)
	command(t, "systemctl", "--root="+m.Root, "enable", units.Service, units.Target)

	command(t, "chroot", m.Root, "dpkg", "--purge", "firstboot")
	left, err := filepath.Glob(m.Root + "/etc/systemd/system/*/firstboot*")
	if err != nil || len(left) > 0 {
		t.Errorf("left after a purge: %v, %v", left, err)
	}
}

func rpmBakes(t *testing.T, rpm string) {
	m := boottest.New(t, nil)
	// Of Debian's packages rpm's database knows nothing, so not even /bin/sh
	// counts as there.
	command(t, "rpm", "--root", m.Root, "--nodeps", "-i", rpm)
	freshlyInstalled(t, m)
	if out, err := exec.CommandContext(t.Context(), "rpm", "--root", m.Root, "-V", "--nodeps", "firstboot").CombinedOutput(); err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), " c /etc/firstboot/config.yaml") {
		t.Errorf("only the edited configuration should differ: %v\n%s", err, out)
	}
	command(t, "systemctl", "--root="+m.Root, "disable", units.Service, units.Target)
	command(t, "rpm", "--root", m.Root, "--nodeps", "-U", "--replacepkgs", rpm)
	if isEnabled(t, m.Root) {
		t.Error("the upgrade enabled what its owner had disabled")
	}
	keepsEdits(t, m.Root)
	command(t, "systemctl", "--root="+m.Root, "enable", units.Service, units.Target)
	command(t, "rpm", "--root", m.Root, "--nodeps", "-e", "firstboot")
	left, err := filepath.Glob(m.Root + "/etc/systemd/system/*/firstboot*")
	if err != nil || len(left) > 0 {
		t.Errorf("left after a removal: %v, %v", left, err)
	}
}

// rpmIntoNothing has a root folder without any systemd, shell or package of its
// own: what a builder begins with.
func rpmIntoNothing(t *testing.T, rpm string) {
	root := t.TempDir()
	command(t, "rpm", "--root", root, "--initdb")
	command(t, "rpm", "--root", root, "--nodeps", "--noscripts", "-i", rpm)
	wholePackage(t, root, "/usr/share/zsh/site-functions/_firstboot")
	if out := command(t, "rpm", "--root", root, "-q", "--configfiles", "firstboot"); out != "/etc/firstboot/config.yaml\n" {
		t.Errorf("configuration files: %q", out)
	}
}

// wholePackage wants units, preset, completion, and a man page for each command.
func wholePackage(t *testing.T, root, zsh string) {
	t.Helper()
	want := []string{
		"/usr/bin/firstboot", "/usr/lib/systemd/system/firstboot.service", "/usr/lib/systemd/system/firstboot-complete.target",
		"/usr/lib/systemd/system-preset/90-firstboot.preset", "/etc/firstboot/config.yaml", "/usr/share/man/man1/firstboot.1.gz",
		"/usr/share/bash-completion/completions/firstboot", "/usr/share/fish/vendor_completions.d/firstboot.fish", zsh,
		"/usr/share/doc/firstboot/README.md", "/usr/share/doc/firstboot/docs/operations.md",
	}
	commands := strings.Split(command(t, "sh", "-c", "'"+root+"'/usr/bin/firstboot __complete '' 2>/dev/null | sed -n 's/\t.*//p'"), "\n")
	if !slices.Contains(commands, "run") {
		t.Errorf("completion knows these commands: %q", commands)
	}
	for _, name := range commands {
		if name != "" && name != "help" {
			want = append(want, "/usr/share/man/man1/firstboot-"+name+".1.gz")
		}
	}
	for _, path := range want {
		if _, err := os.Stat(root + path); err != nil {
			t.Error(err)
		}
	}
}

// bringTheSame compares the packages' lists of files, but for the folder in
// which zsh looks on either kind of system.
func bringTheSame(t *testing.T, deb, rpm string) {
	root := t.TempDir()
	command(t, "dpkg-deb", "--extract", deb, root)
	wholePackage(t, root, "/usr/share/zsh/vendor-completions/_firstboot")
	if out := command(t, "dpkg-deb", "--info", deb, "conffiles"); out != "/etc/firstboot/config.yaml\n" {
		t.Errorf("configuration files: %q", out)
	}
	ofDeb := command(t, "sh", "-c", "dpkg-deb --fsys-tarfile '"+deb+"' | tar t | sed -n 's,^\\.\\(.*[^/]\\)$,\\1,p' | sort")
	ofRPM := command(t, "sh", "-c", "rpm -qpl '"+rpm+"' | sed 's,/site-functions/,/vendor-completions/,' | grep -vx '/.*/firstboot/config.d' | sort")
	if d := cmp.Diff(ofDeb, ofRPM); d != "" {
		t.Errorf("deb and rpm differ: %s", d)
	}
}

// sameBytes builds anew. Sources that somebody edits meanwhile are no fault of
// the build, so two tries may differ and three may not.
func sameBytes(t *testing.T, deb, rpm string) {
	for range 2 {
		before := []string{sumOfPackage(t, deb), sumOfPackage(t, rpm)}
		deb, rpm = packages(t)
		if slices.Equal(before, []string{sumOfPackage(t, deb), sumOfPackage(t, rpm)}) {
			return
		}
	}
	t.Error("each build gives other bytes")
}

func sumOfPackage(t *testing.T, path string) string {
	t.Helper()
	sum, _, err := sumOfFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
