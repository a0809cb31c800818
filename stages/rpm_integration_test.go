//go:build integration

package stages_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/engine"
)

// minionsSpec is the spec of a package like upstream's, which does not mark its
// configuration file. It has no scriptlet, because the machine's root has no
// shell.
const minionsSpec = `
Name: eru-minions
Version: %s
Release: 1
Summary: Docker's network plugin
License: MIT
BuildArch: noarch
%%description
Docker's network plugin.
%%install
mkdir -p %%{buildroot}/usr/bin %%{buildroot}/etc/eru %%{buildroot}/usr/lib/systemd/system
head -c %d /dev/zero > %%{buildroot}/usr/bin/eru-minions
chmod 755 %%{buildroot}/usr/bin/eru-minions
echo ETCD_ENDPOINTS=http://127.0.0.1:2379 > %%{buildroot}/etc/eru/minions.conf
printf '[Service]\nExecStart=/usr/bin/eru-minions\n[Install]\nWantedBy=multi-user.target\n' > %%{buildroot}/usr/lib/systemd/system/eru-minions.service
%%files
/usr/bin/eru-minions
/etc/eru/minions.conf
/usr/lib/systemd/system/eru-minions.service
`

// rpmbuilt builds a package with the real rpmbuild, with a program of size bytes.
func rpmbuilt(t *testing.T, version string, size int) string {
	t.Helper()
	top := t.TempDir()
	spec := filepath.Join(top, "eru-minions.spec")
	if err := os.WriteFile(spec, fmt.Appendf(nil, minionsSpec, version, size), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "rpmbuild", "-bb", "--define", "_topdir "+top, "--define", "_build_id_links none",
		"--define", "_binary_payload w1.gzdio", spec)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("rpmbuild: %v\n%s", err, out)
	}
	return filepath.Join(top, "RPMS", "noarch", "eru-minions-"+version+"-1.noarch.rpm")
}

// withRealRPM returns a machine that uses the real rpm below its root.
func withRealRPM(t *testing.T, size int) *machine {
	t.Helper()
	m := newMachine(t)
	m.realRPM = func(args []string) CommandResult { return execute("rpm", append([]string{"--root", m.root}, args...)) }
	data, err := os.ReadFile(rpmbuilt(t, "1.2.3", size))
	if err != nil {
		t.Fatal(err)
	}
	m.usePackage(string(data), "")
	return m
}

// rpmByHand runs the real rpm as an administrator would.
func (m *machine) rpmByHand(args ...string) {
	m.t.Helper()
	if ran := m.realRPM(args); ran.Exit != 0 {
		m.t.Fatalf("rpm %q: %+v", args, ran)
	}
}

func TestRealRPMInstallsThePackage(t *testing.T) {
	m := withRealRPM(t, 1000)
	m.wantWordsInDifferences("minions", "not installed")
	m.mustApply("minions")
	if got := m.get(minionsConf); got != "ETCD_ENDPOINTS=http://127.0.0.1:1\n" {
		t.Errorf("%s: %s", minionsConf, got)
	}
	m.mustApply("minions")
	if steps := m.stepsWith("command rpm -U"); len(steps) > 0 {
		t.Errorf("a second Apply took the steps %q", steps)
	}
}

// wantWordsInDifferences fails the test unless the differences of a stage's check
// contain the words.
func (m *machine) wantWordsInDifferences(name string, words ...string) {
	m.t.Helper()
	var all string
	for _, d := range m.check(name).Differences {
		all += d.String() + "\n"
	}
	wantWords(m.t, all, words...)
}

func TestRealRPMFindsAndRepairsDamage(t *testing.T) {
	m := withRealRPM(t, 1000)
	m.mustApply("minions")
	for what, c := range map[string]struct {
		change func()
		words  []string
	}{
		"a truncated program":                {func() { m.put(minionsProgram, "#!/b") }, []string{minionsProgram, "expected as packaged"}},
		"a missing program":                  {func() { m.remove(minionsProgram) }, []string{"missing", minionsProgram}},
		"a configuration overwritten by rpm": {func() { m.rpmByHand("-U", "--replacepkgs", "--nodeps", m.artifacts.rpm) }, []string{minionsConf}},
		"an older package": {func() {
			m.rpmByHand("-e", "--nodeps", "eru-minions")
			m.rpmByHand("-i", "--nodeps", rpmbuilt(t, "1.0.0", 10))
		}, []string{"eru-minions-1.0.0-1", "expected eru-minions-1.2.3-1"}},
		"a newer package": {func() { m.rpmByHand("-U", "--nodeps", rpmbuilt(t, "2.0.0", 10)) }, []string{"eru-minions-2.0.0-1"}},
		"no package":      {func() { m.rpmByHand("-e", "--nodeps", "eru-minions") }, []string{"not installed"}},
	} {
		t.Log(what)
		c.change()
		m.wantWordsInDifferences("minions", c.words...)
		m.mustApply("minions")
	}
}

// TestLockOfRealRPMIsWaitedFor: rpm itself does not wait, it fails at once.
func TestLockOfRealRPMIsWaitedFor(t *testing.T) {
	m := withRealRPM(t, 1000)
	m.rpmByHand("--initdb")
	locks, err := filepath.Glob(filepath.Join(m.root, "*/*/.rpm.lock"))
	if more, _ := filepath.Glob(filepath.Join(m.root, "*/*/*/.rpm.lock")); err != nil || len(locks)+len(more) == 0 {
		t.Fatalf("rpm has no lock below %s: %v", m.root, err)
	} else {
		locks = append(locks, more...)
	}
	lock, err := os.OpenFile(locks[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.FcntlFlock(lock.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	m.put("/proc/locks", fmt.Sprintf("1: POSIX  ADVISORY  WRITE %d fd:00:1 0 EOF\n", os.Getpid()))
	m.put(fmt.Sprintf("/proc/%d/comm", os.Getpid()), "dnf\n")
	err = m.apply(t.Context(), "minions")
	wait, waits := asError[*engine.Wait](err)
	if !waits || wait.For != fmt.Sprintf("rpm's transaction lock, held by dnf (pid %d)", os.Getpid()) {
		t.Errorf("got %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	m.mustApply("minions")
}

// TestNextAttemptRepairsAKilledRealRPM that was unpacking the package.
func TestNextAttemptRepairsAKilledRealRPM(t *testing.T) {
	m := withRealRPM(t, 100_000_000)
	real := m.realRPM
	m.realRPM = func(args []string) CommandResult {
		if args[0] != "-U" {
			return real(args)
		}
		m.realRPM = real
		ran := killWhenUnpacking(t, m.file("/usr/bin"), append([]string{"--root", m.root}, args...))
		// The next rpm must run in another second: the names of its partial files
		// contain the time in seconds.
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
		return ran
	}
	// The engine pauses between the attempts, so that they run in different
	// seconds.
	retries := 0
	err := engine.Run(t.Context(), []engine.Stage{m.stage("minions")}, engine.Options{Events: func(e engine.Event) {
		if e.Kind == engine.Retrying {
			retries++
		}
	}})
	if err != nil || retries == 0 {
		t.Errorf("ended with %v after %d retries", err, retries)
	}
	if info, err := os.Stat(m.file(minionsProgram)); err != nil || info.Size() != 100_000_000 {
		t.Errorf("%v, %v", info, err)
	}
	left, err := filepath.Glob(m.file(minionsProgram + ";*"))
	if err != nil || len(left) > 0 {
		t.Errorf("partial files are left: %v, %v", left, err)
	}
	m.wantNoDifferences("minions")
}

// killWhenUnpacking kills rpm when a part of the program is in dir.
func killWhenUnpacking(t *testing.T, dir string, args []string) CommandResult {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "rpm", args...)
	if err := c.Start(); err != nil {
		t.Error(err)
		return CommandResult{Exit: -1}
	}
	for ctx.Err() == nil && !growing(dir) {
	}
	_ = c.Process.Signal(syscall.SIGKILL)
	err := c.Wait()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if exit == nil || exit.ExitCode() != -1 {
		t.Errorf("rpm was not killed: %v", err)
	}
	return CommandResult{Exit: -1, Stderr: "Killed"}
}

func growing(dir string) bool {
	entries, _ := os.ReadDir(dir)
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		info, err := e.Info()
		return err == nil && strings.HasPrefix(e.Name(), "eru-minions") && info.Size() > 1<<20
	})
}
