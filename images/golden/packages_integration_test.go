//go:build integration

package golden

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/test/boottest"
	"github.com/projecteru2/firstboot/units"
)

// command runs a program that must succeed and returns its output.
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

// packages builds the packages like make packages.
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

// isEnabled reports whether the units are enabled in an image.
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

// copyInto copies a file into an image and returns its path there.
func copyInto(t *testing.T, root, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "/root", filepath.Base(file)), string(data), 0o644)
	return "/root/" + filepath.Base(file)
}

// editConfig fills in the required keys of the default configuration, like an
// administrator.
func editConfig(t *testing.T, root string) {
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
	// As the file's first lines say: uncomment the keys.
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

// checkEdits checks that the administrator's configuration was kept.
func checkEdits(t *testing.T, root string) {
	t.Helper()
	text, err := os.ReadFile(root + "/etc/firstboot/config.yaml")
	if err != nil || !strings.Contains(string(text), "\netcd:\n") {
		t.Errorf("the edited configuration was replaced: %v\n%s", err, text)
	}
}

// checkInstalled checks an image after the first installation of either package.
func checkInstalled(t *testing.T, m *boottest.Machine) {
	t.Helper()
	if !isEnabled(t, m.Root) {
		t.Error("the units are not enabled")
	}
	out, err := exec.CommandContext(t.Context(), m.Root+"/usr/bin/firstboot", "validate", "--root", m.Root).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/etc/firstboot/config.yaml:1:1: etcd.endpoints: is required") {
		t.Errorf("validate does not report the missing key of the default configuration: %v\n%s", err, out)
	}
	if target, err := os.Readlink(m.Root + "/etc/issue.d/firstboot.issue"); target != "/run/issue.d/firstboot.issue" {
		t.Errorf("issue: %q, %v", target, err)
	}
	p, err := (&Bake{
		Host: imageHost(m.Root), Binary: m.Root + "/usr/bin/firstboot", NoConfig: true, NoBundle: true,
	}).Plan(t.Context())
	if err != nil || len(p.Changes) > 0 {
		t.Errorf("a bake would change %v, %v", p, err)
	}
	editConfig(t, m.Root)
}

func TestPackages(t *testing.T) {
	deb, rpm := packages(t)
	t.Run("the deb bakes an image", func(t *testing.T) { debBakes(t, deb) })
	t.Run("the rpm bakes an image", func(t *testing.T) { rpmBakes(t, rpm) })
	t.Run("the rpm installs into an empty directory", func(t *testing.T) { rpmIntoEmptyRoot(t, rpm) })
	t.Run("both contain the same files", func(t *testing.T) { sameFiles(t, deb, rpm) })
	t.Run("packages of another architecture", otherArchitecture)
	t.Run("builds are reproducible", func(t *testing.T) { reproducible(t, deb, rpm) })
}

func debBakes(t *testing.T, deb string) {
	m := boottest.New(t, nil)
	inside := copyInto(t, m.Root, deb)
	command(t, "chroot", m.Root, "dpkg", "-i", inside)
	checkInstalled(t, m)

	// A new installation enables the units; an upgrade keeps the administrator's
	// choice.
	command(t, "systemctl", "--root="+m.Root, "disable", units.Service, units.Target)
	command(t, "chroot", m.Root, "dpkg", "-i", inside)
	if isEnabled(t, m.Root) {
		t.Error("the upgrade enabled units that the administrator had disabled")
	}
	checkEdits(t, m.Root)
	command(t, "systemctl", "--root="+m.Root, "enable", units.Service, units.Target)

	command(t, "chroot", m.Root, "dpkg", "--purge", "firstboot")
	left, err := filepath.Glob(m.Root + "/etc/systemd/system/*/firstboot*")
	if err != nil || len(left) > 0 {
		t.Errorf("left after a purge: %v, %v", left, err)
	}
}

func rpmBakes(t *testing.T, rpm string) {
	m := boottest.New(t, nil)
	// rpm's database does not contain Debian's packages, so not even /bin/sh is
	// known to be installed.
	command(t, "rpm", "--root", m.Root, "--nodeps", "-i", rpm)
	checkInstalled(t, m)
	if out, err := exec.CommandContext(t.Context(), "rpm", "--root", m.Root, "-V", "--nodeps", "firstboot").CombinedOutput(); err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), " c /etc/firstboot/config.yaml") {
		t.Errorf("only the edited configuration should differ: %v\n%s", err, out)
	}
	command(t, "systemctl", "--root="+m.Root, "disable", units.Service, units.Target)
	command(t, "rpm", "--root", m.Root, "--nodeps", "-U", "--replacepkgs", rpm)
	if isEnabled(t, m.Root) {
		t.Error("the upgrade enabled units that the administrator had disabled")
	}
	checkEdits(t, m.Root)
	command(t, "systemctl", "--root="+m.Root, "enable", units.Service, units.Target)
	command(t, "rpm", "--root", m.Root, "--nodeps", "-e", "firstboot")
	left, err := filepath.Glob(m.Root + "/etc/systemd/system/*/firstboot*")
	if err != nil || len(left) > 0 {
		t.Errorf("left after a removal: %v, %v", left, err)
	}
}

// rpmIntoEmptyRoot installs into a root directory without systemd, shell or
// packages, as image builders start with.
func rpmIntoEmptyRoot(t *testing.T, rpm string) {
	root := t.TempDir()
	command(t, "rpm", "--root", root, "--initdb")
	command(t, "rpm", "--root", root, "--nodeps", "--noscripts", "-i", rpm)
	checkFiles(t, root, "/usr/share/zsh/site-functions/_firstboot")
	if out := command(t, "rpm", "--root", root, "-q", "--configfiles", "firstboot"); out != "/etc/firstboot/config.yaml\n" {
		t.Errorf("configuration files: %q", out)
	}
}

// checkFiles checks for units, preset, completion and a man page for each command.
func checkFiles(t *testing.T, root, zsh string) {
	t.Helper()
	want := []string{
		"/usr/bin/firstboot", "/usr/lib/systemd/system/firstboot.service", "/usr/lib/systemd/system/firstboot-complete.target",
		"/usr/lib/systemd/system-preset/90-firstboot.preset", "/etc/firstboot/config.yaml", "/usr/share/man/man1/firstboot.1.gz",
		"/usr/share/bash-completion/completions/firstboot", "/usr/share/fish/vendor_completions.d/firstboot.fish", zsh,
		"/usr/share/doc/firstboot/README.md", "/usr/share/doc/firstboot/docs/operations.md", "/usr/share/man/man5/firstboot.yaml.5.gz",
	}
	commands := strings.Split(command(t, "sh", "-c", "'"+root+"'/usr/bin/firstboot __complete '' 2>/dev/null | sed -n 's/\t.*//p'"), "\n")
	if !slices.Contains(commands, "run") {
		t.Errorf("completion lists the commands %q, without run", commands)
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
	checkLinks(t, root+"/usr/share/doc/firstboot")
	page := command(t, "sh", "-c", "zcat '"+root+"'/usr/share/man/man1/firstboot.1.gz")
	if strings.Contains(page, "=false]") || !strings.Contains(page, "EXIT CODES") {
		t.Errorf("firstboot(1) shows a default in place of a flag, or has no exit codes:\n%s", page)
	}
	if page := command(t, "sh", "-c", "zcat '"+root+"'/usr/share/man/man5/firstboot.yaml.5.gz"); !strings.Contains(page, "pool.cidr") {
		t.Errorf("firstboot.yaml(5) does not describe pool.cidr:\n%s", page)
	}
}

var relativeLink = regexp.MustCompile(`\]\(([^)#:]+)[)#]`)

// checkLinks checks that every relative link in the documentation leads to a file.
func checkLinks(t *testing.T, dir string) {
	t.Helper()
	links := 0
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range relativeLink.FindAllSubmatch(text, -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), string(m[1]))); err != nil {
				t.Errorf("%s links to a file that is not in the package: %v", path, err)
			}
		}
		return err
	})
	if err != nil || links < 5 {
		t.Errorf("%d links found, %v", links, err)
	}
}

// sameFiles compares the packages' lists of files. They differ only in zsh's
// directory for completions.
func sameFiles(t *testing.T, deb, rpm string) {
	root := t.TempDir()
	command(t, "dpkg-deb", "--extract", deb, root)
	checkFiles(t, root, "/usr/share/zsh/vendor-completions/_firstboot")
	if out := command(t, "dpkg-deb", "--info", deb, "conffiles"); out != "/etc/firstboot/config.yaml\n" {
		t.Errorf("configuration files: %q", out)
	}
	debFiles := command(t, "sh", "-c", "dpkg-deb --fsys-tarfile '"+deb+"' | tar t | sed -n 's,^\\.\\(.*[^/]\\)$,\\1,p' | sort")
	rpmFiles := command(t, "sh", "-c", "rpm -qp --queryformat '[%{FILEMODES:perms} %{FILENAMES}\\n]' '"+rpm+"' | sed -n 's,^[^d][^ ]* ,,p' | sed 's,/site-functions/,/vendor-completions/,' | sort")
	if d := cmp.Diff(debFiles, rpmFiles); d != "" {
		t.Errorf("deb and rpm differ: %s", d)
	}
}

// otherArchitecture builds packages for machines other than this one.
func otherArchitecture(t *testing.T) {
	t.Setenv("GOARCH", otherArch())
	deb, rpm := packages(t)
	want := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[otherArch()]
	if got := command(t, "rpm", "-qp", "--queryformat", "%{ARCH}", rpm); got != want {
		t.Errorf("the rpm is for %s, want %s", got, want)
	}
	if got := command(t, "dpkg-deb", "--field", deb, "Architecture"); got != otherArch()+"\n" {
		t.Errorf("the deb is for %s, want %s", got, otherArch())
	}
	root := t.TempDir()
	command(t, "dpkg-deb", "--extract", deb, root)
	built, _, err := architecture(root + BinaryPath)
	if name, _ := Architecture(otherArch()); err != nil || built != name {
		t.Errorf("the program is for %s, want %s: %v", built, name, err)
	}
}

// reproducible builds the packages again and compares them. Somebody may edit the
// sources during the test, so it compares a second time before it fails.
func reproducible(t *testing.T, deb, rpm string) {
	for range 2 {
		before := []string{packageDigest(t, deb), packageDigest(t, rpm)}
		deb, rpm = packages(t)
		if slices.Equal(before, []string{packageDigest(t, deb), packageDigest(t, rpm)}) {
			return
		}
	}
	t.Error("each build gives a different package")
}

func packageDigest(t *testing.T, path string) string {
	t.Helper()
	digest, _, err := fileDigest(path)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}
