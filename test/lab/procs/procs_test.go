package procs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asOwner makes the test binary an owner of a group in this folder.
const asOwner = "PROCS_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asOwner); dir != "" {
		g := NewGroup(dir, os.Getenv("KEEP") != "")
		p, err := g.Start("sleeper", exec.Command("sleep", "600"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.PID)
		select {}
	}
	os.Exit(m.Run())
}

// killedOwner starts a run that owns a process, and kills it.
func killedOwner(t *testing.T, dir string, env ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), asOwner+"="+dir), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the owner said %q (%v)", line, err)
	}
	if alive, err := Alive(dir); err != nil || len(alive) != 1 || !strings.HasPrefix(alive[0], "sleeper (") {
		t.Fatalf("before the owner was killed: %q, %v", alive, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// within polls, as the kernel tells nobody when a grandchild is gone.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestProcessesDieWithAKilledOwner(t *testing.T) {
	dir := t.TempDir()
	killedOwner(t, dir)
	within(t, "the process is gone", func() bool {
		alive, err := Alive(dir)
		return err == nil && len(alive) == 0
	})
}

func TestKeptProcessesAreFoundAndSwept(t *testing.T) {
	dir := t.TempDir()
	killedOwner(t, dir, "KEEP=1")
	if alive, err := Alive(dir); err != nil || len(alive) != 1 {
		t.Fatalf("a kept process is not there: %q, %v", alive, err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if alive, err := Alive(dir); err != nil || len(alive) != 0 {
		t.Errorf("after the sweep: %q, %v", alive, err)
	}
}

func TestANumberGivenAnewIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	// This test's own process, under another start time: killing it would end
	// the test.
	lines := fmt.Sprintf("%d other-boot/1 sleeper\n\n%d torn\nx y z\n", os.Getpid(), os.Getpid())
	if err := os.WriteFile(filepath.Join(dir, recordName), []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
}

func TestStopAndClose(t *testing.T) {
	g := NewGroup(t.TempDir(), false)
	first, err := g.Start("one", exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := g.Start("two", exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(); err != nil || first.State() != "signal: terminated" {
		t.Errorf("stopped: %v, %s", err, first.State())
	}
	if second.State() != "running" {
		t.Errorf("the other is %s", second.State())
	}
	if err := g.Close(); err != nil || second.State() != "signal: killed" {
		t.Errorf("closed: %v, %s", err, second.State())
	}
	if _, err := g.Start("three", exec.Command("true")); err == nil || !strings.Contains(err.Error(), "the lab is closed") {
		t.Errorf("started in a closed group: %v", err)
	}
}

func TestWaitingForAProcessEndsWithTheContext(t *testing.T) {
	g := NewGroup(t.TempDir(), false)
	defer g.Close()
	p, err := g.Start("one", exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Wait(ctx); err == nil || !strings.Contains(err.Error(), "cannot see one end") {
		t.Errorf("the wait said %v", err)
	}
}
