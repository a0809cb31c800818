//go:build lab

package labnet

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/test/lab/procs"
)

// isolated tells the test binary that it runs in its own mount namespace.
const isolated = "LABNET_TEST_ISOLATED"

// TestMain runs the tests in a mount namespace with an empty /run, so that they
// neither see nor change this machine's named network namespaces.
func TestMain(m *testing.M) {
	if os.Getenv(isolated) != "" {
		for unix.Unmount(namesDir, unix.MNT_DETACH) == nil { // those of the machine
		}
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
			fmt.Fprintln(os.Stderr, "cannot mount /run:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), isolated+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// Unshare, unlike clone, makes all mounts private first.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests in a mount namespace (they need root):", err)
		os.Exit(1)
	}
}

// unmountNames restores a machine on which nobody has prepared namesDir.
func unmountNames(t *testing.T) {
	t.Helper()
	for unix.Unmount(namesDir, unix.MNT_DETACH) == nil {
	}
	if err := os.RemoveAll(namesDir); err != nil {
		t.Fatal(err)
	}
}

// abandon creates a named network namespace and leaves it without any thread,
// like a process that was killed.
func abandon(t *testing.T, name string) {
	t.Helper()
	result := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // never unlocked: the thread ends
		ns, err := netns.NewNamed(name)
		if err == nil {
			err = ns.Close()
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	<-ended
}

func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func wantNoName(t *testing.T, name string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(namesDir, name)); !os.IsNotExist(err) {
		t.Errorf("the name %s still exists (%v)", name, err)
	}
}

// mountsOfNames returns the lines of mountinfo (proc(5)) for namesDir itself. It
// reads those of this thread: /proc/self is the main thread, which unlinkName may have
// left in a private mount namespace.
func mountsOfNames(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); fields[4] == namesDir {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestCloseWorksAfterTheFirstIPNetnsAdd(t *testing.T) {
	unmountNames(t)
	group := procs.NewGroup(t.TempDir(), false)
	n, err := New(group, "fbtest-first", netip.MustParsePrefix("10.123.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	before := mountsOfNames(t)
	if len(before) != 1 || !strings.Contains(before[0], " shared:") {
		t.Errorf("mounts of %s: %q, want one that is shared", namesDir, before)
	}
	ip(t, "netns", "add", "other")
	if after := mountsOfNames(t); !slices.Equal(after, before) {
		t.Errorf("ip netns add changed the mounts of %s from %q to %q", namesDir, before, after)
	}
	if names := ip(t, "netns", "list"); !strings.Contains(names, "fbtest-first") {
		t.Errorf("ip netns list does not contain the lab's namespace:\n%s", names)
	}
	if err := group.Close(); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	wantNoName(t, "fbtest-first")
	if names := ip(t, "netns", "list"); !strings.Contains(names, "other") {
		t.Errorf("another namespace was removed: ip netns list prints %q", names)
	}
	ip(t, "netns", "exec", "other", "true")
	ip(t, "netns", "delete", "other")
}

func TestRemoveOfANameWithAHiddenMount(t *testing.T) {
	unmountNames(t)
	abandon(t, "fbtest-hidden")
	ip(t, "netns", "add", "other") // mounts namesDir over itself
	if err := Remove("fbtest-hidden"); err != nil {
		t.Error(err)
	}
	wantNoName(t, "fbtest-hidden")
	ip(t, "netns", "exec", "other", "true")
	unmountNames(t) // fails if a mount is left on a name
}

func TestRemoveOfAMissingName(t *testing.T) {
	unmountNames(t)
	if err := Remove("fbtest-missing"); err != nil {
		t.Errorf("without %s: %v", namesDir, err)
	}
	ip(t, "netns", "add", "other")
	if err := Remove("fbtest-missing"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "../netns/other"} {
		if err := Remove(name); err == nil || !strings.Contains(err.Error(), "invalid name") {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	ip(t, "netns", "delete", "other")
}

func TestNewReplacesAnUnusedNamespace(t *testing.T) {
	unmountNames(t)
	abandon(t, "fbtest-unused")
	if err := os.WriteFile(filepath.Join(namesDir, "fbtest-file"), nil, 0o444); err != nil { // killed before the mount
		t.Fatal(err)
	}
	ip(t, "netns", "add", "other")
	for _, name := range []string{"fbtest-unused", "fbtest-file"} {
		group := procs.NewGroup(t.TempDir(), false)
		n, err := New(group, name, netip.MustParsePrefix("10.123.0.0/24"))
		if err != nil {
			t.Fatal(err)
		}
		if err := group.Close(); err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		wantNoName(t, name)
	}
	ip(t, "netns", "delete", "other")
}
