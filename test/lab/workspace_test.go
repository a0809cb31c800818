//go:build lab

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/test/lab/labnet"
	"github.com/projecteru2/firstboot/test/lab/procs"
)

// ownerVariable makes the test binary act as another process that owns a lab with
// a network namespace and a process, and never ends. Its value is the directory
// of labs and the name. KEEP=1 creates the lab with Keep.
const ownerVariable = "LAB_TEST_OWNER"

func TestMain(m *testing.M) {
	if labs, name, found := strings.Cut(os.Getenv(ownerVariable), " "); found {
		fmt.Println(runOwner(labs, name))
		select {}
	}
	os.Exit(m.Run())
}

func runOwner(labs, name string) error {
	w, err := newWorkspace(labs, name, func(string, ...any) {})
	if err != nil {
		return err
	}
	keep := os.Getenv("KEEP") != ""
	group := procs.NewGroup(w.dir, keep)
	if _, err := labnet.New(group, w.namespace(), netip.MustParsePrefix(defaultPrefix)); err != nil {
		return err
	}
	if _, err := group.Start("sleeper", exec.Command("sleep", "600")); err != nil {
		return err
	}
	if keep {
		return w.markKept()
	}
	return nil
}

// startOwner starts a process that owns a lab. kill sends it SIGKILL.
func startOwner(t *testing.T, labs, name string, env ...string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), ownerVariable+"="+labs+" "+name), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "<nil>\n" {
		t.Fatalf("the owner printed %q (%v)", line, err)
	}
	return kill
}

func testName() string { return fmt.Sprintf("test-%d", os.Getpid()) }

// remains lists the parts of a lab that exist.
func remains(t *testing.T, labs, name string) string {
	t.Helper()
	var list []string
	if _, err := os.Stat(filepath.Join(labs, name)); err == nil {
		list = append(list, "directory")
	}
	if _, err := os.Stat(filepath.Join("/run/netns", "firstboot-"+name)); err == nil {
		list = append(list, "namespace")
	}
	alive, err := procs.Alive(filepath.Join(labs, name))
	if err != nil {
		t.Fatal(err)
	}
	if len(alive) > 0 {
		list = append(list, "process")
	}
	return strings.Join(list, " ")
}

func TestLabOfAnotherProcessIsNotRemoved(t *testing.T) {
	labs, name := t.TempDir(), testName()
	kill := startOwner(t, labs, name)
	_, err := newWorkspace(labs, name, t.Logf)
	var inUse *inUseError
	if !errors.As(err, &inUse) || !strings.Contains(err.Error(), "in use by process ") {
		t.Errorf("newWorkspace with the same name: %v", err)
	}
	other, err := newWorkspace(labs, name+"-other", t.Logf)
	if err != nil {
		t.Fatalf("newWorkspace with another name: %v", err)
	}
	if err := other.remove(); err != nil {
		t.Error(err)
	}
	if seen := remains(t, labs, name); seen != "directory namespace process" {
		t.Errorf("remains of the other process's lab: %s", seen)
	}
	kill()
	removed, err := newWorkspace(labs, name+"-other", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := removed.remove(); err != nil {
		t.Error(err)
	}
}

func TestLabOfAKilledProcessIsRemoved(t *testing.T) {
	labs, name := t.TempDir(), testName()
	startOwner(t, labs, name)()
	if seen := remains(t, labs, name); !strings.HasPrefix(seen, "directory namespace") {
		t.Fatalf("remains after the owner was killed: %s", seen)
	}
	w, err := newWorkspace(labs, name+"-next", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if seen := remains(t, labs, name); seen != "" {
		t.Errorf("remains after a new lab was created: %s", seen)
	}
	if err := w.remove(); err != nil {
		t.Error(err)
	}
	if seen := remains(t, labs, name+"-next"); seen != "" {
		t.Errorf("remains after the new lab was removed: %s", seen)
	}
}

func TestKeptLabRunsUntilItIsStopped(t *testing.T) {
	labs, name := t.TempDir(), testName()
	startOwner(t, labs, name, "KEEP=1")()
	if _, err := newWorkspace(labs, name, t.Logf); err == nil || !strings.Contains(err.Error(), "started with KEEP: sleeper (") {
		t.Errorf("newWorkspace with the same name: %v", err)
	}
	w, err := newWorkspace(labs, name+"-next", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.remove(); err != nil {
		t.Error(err)
	}
	if seen := remains(t, labs, name); seen != "directory namespace process" {
		t.Errorf("remains of the kept lab: %s", seen)
	}
	if err := stopIn(labs, name); err != nil {
		t.Fatal(err)
	}
	if seen := remains(t, labs, name); seen != "" {
		t.Errorf("remains after it was stopped: %s", seen)
	}
	if err := stopIn(labs, name); err == nil || !strings.Contains(err.Error(), "lab "+name+" is not running") {
		t.Errorf("second stop: %v", err)
	}
}

func TestInvalidNamesAreRefused(t *testing.T) {
	for _, name := range []string{"", "all", "a/b", "../x", "UP", "1st", strings.Repeat("a", 32)} {
		if _, err := newWorkspace(t.TempDir(), name, t.Logf); err == nil || !strings.Contains(err.Error(), "want lower case") {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}
