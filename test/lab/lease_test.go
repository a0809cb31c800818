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

// asRun makes the test binary a run with a lab of this name (in a folder of
// labs), which has a network namespace and a process, and never ends. KEEP says
// that the lab is to outlive it.
const asRun = "LAB_TEST_RUN"

func TestMain(m *testing.M) {
	if labs, name, found := strings.Cut(os.Getenv(asRun), " "); found {
		fmt.Println(beRun(labs, name))
		select {}
	}
	os.Exit(m.Run())
}

func beRun(labs, name string) error {
	l, err := take(labs, name, func(string, ...any) {})
	if err != nil {
		return err
	}
	keep := os.Getenv("KEEP") != ""
	group := procs.NewGroup(l.dir, keep)
	if _, err := labnet.New(group, l.namespace(), netip.MustParsePrefix(defaultPrefix)); err != nil {
		return err
	}
	if _, err := group.Start("sleeper", exec.Command("sleep", "600")); err != nil {
		return err
	}
	if keep {
		return l.keep()
	}
	return nil
}

// aRun starts such a run; kill ends it as nothing can be caught.
func aRun(t *testing.T, labs, name string, env ...string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), asRun+"="+labs+" "+name), env...)
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
		t.Fatalf("the other run said %q (%v)", line, err)
	}
	return kill
}

func testName() string { return fmt.Sprintf("test-%d", os.Getpid()) }

// there tells what is left of a lab.
func there(t *testing.T, labs, name string) string {
	t.Helper()
	var list []string
	if _, err := os.Stat(filepath.Join(labs, name)); err == nil {
		list = append(list, "folder")
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

func TestAnotherRunsLabIsLeftAlone(t *testing.T) {
	labs, name := t.TempDir(), testName()
	kill := aRun(t, labs, name)
	_, err := take(labs, name, t.Logf)
	var used *inUseError
	if !errors.As(err, &used) || !strings.Contains(err.Error(), "in use by process ") {
		t.Errorf("its name can be taken: %v", err)
	}
	other, err := take(labs, name+"-other", t.Logf)
	if err != nil {
		t.Fatalf("beside it no lab can be made: %v", err)
	}
	if err := other.close(); err != nil {
		t.Error(err)
	}
	if seen := there(t, labs, name); seen != "folder namespace process" {
		t.Errorf("of the other run's lab is there: %s", seen)
	}
	kill()
	removed, err := take(labs, name+"-other", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := removed.close(); err != nil {
		t.Error(err)
	}
}

func TestWhatAKilledRunLeftIsRemoved(t *testing.T) {
	labs, name := t.TempDir(), testName()
	aRun(t, labs, name)()
	if seen := there(t, labs, name); !strings.HasPrefix(seen, "folder namespace") {
		t.Fatalf("a killed run left: %s", seen)
	}
	l, err := take(labs, name+"-next", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if seen := there(t, labs, name); seen != "" {
		t.Errorf("after the next run's start is there: %s", seen)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	if seen := there(t, labs, name+"-next"); seen != "" {
		t.Errorf("after its end is there: %s", seen)
	}
}

func TestAKeptLabOutlivesItsRunUntilItIsStopped(t *testing.T) {
	labs, name := t.TempDir(), testName()
	aRun(t, labs, name, "KEEP=1")()
	if _, err := take(labs, name, t.Logf); err == nil || !strings.Contains(err.Error(), "told to keep it: sleeper (") {
		t.Errorf("its name can be taken: %v", err)
	}
	l, err := take(labs, name+"-next", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	if seen := there(t, labs, name); seen != "folder namespace process" {
		t.Errorf("of the kept lab is there: %s", seen)
	}
	if err := stopIn(labs, name); err != nil {
		t.Fatal(err)
	}
	if seen := there(t, labs, name); seen != "" {
		t.Errorf("after it was stopped is there: %s", seen)
	}
	if err := stopIn(labs, name); err == nil || !strings.Contains(err.Error(), "no lab "+name) {
		t.Errorf("stopped twice: %v", err)
	}
}

func TestBadNames(t *testing.T) {
	for _, name := range []string{"", "all", "a/b", "../x", "UP", "1st", strings.Repeat("a", 32)} {
		if _, err := take(t.TempDir(), name, t.Logf); err == nil || !strings.Contains(err.Error(), "want lower case") {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}
