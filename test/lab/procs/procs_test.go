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

// ownerVariable makes the test binary act as the owner of a group in this directory.
const ownerVariable = "PROCS_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerVariable); dir != "" {
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

// startAndKillOwner starts a process that owns another one, and kills the owner.
func startAndKillOwner(t *testing.T, dir string, env ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), ownerVariable+"="+dir), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the owner printed %q (%v)", line, err)
	}
	if alive, err := Alive(dir); err != nil || len(alive) != 1 || !strings.HasPrefix(alive[0], "sleeper (") {
		t.Fatalf("before the owner was killed: %q, %v", alive, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// waitUntil polls, because there is no notification of the end of a grandchild.
func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out after 10s waiting for %s", what)
		}
	}
}

func TestProcessesEndWithAKilledOwner(t *testing.T) {
	dir := t.TempDir()
	startAndKillOwner(t, dir)
	waitUntil(t, "the end of the process", func() bool {
		alive, err := Alive(dir)
		return err == nil && len(alive) == 0
	})
}

func TestKillRecordedKillsKeptProcesses(t *testing.T) {
	dir := t.TempDir()
	startAndKillOwner(t, dir, "KEEP=1")
	if alive, err := Alive(dir); err != nil || len(alive) != 1 {
		t.Fatalf("running processes: %q, %v, want 1", alive, err)
	}
	if err := KillRecorded(dir); err != nil {
		t.Fatal(err)
	}
	if alive, err := Alive(dir); err != nil || len(alive) != 0 {
		t.Errorf("running processes after KillRecorded: %q, %v, want none", alive, err)
	}
}

func TestKillRecordedIgnoresReusedPIDs(t *testing.T) {
	dir := t.TempDir()
	// The PID of this test with another start time. The test ends if it is
	// killed.
	lines := fmt.Sprintf("%d other-boot/1 sleeper\n\n%d torn\nx y z\n", os.Getpid(), os.Getpid())
	if err := os.WriteFile(filepath.Join(dir, recordName), []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := KillRecorded(dir); err != nil {
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
		t.Errorf("after Stop: %v, %s", err, first.State())
	}
	if second.State() != "running" {
		t.Errorf("after Stop of the first, the second is %s", second.State())
	}
	if err := g.Close(); err != nil || second.State() != "signal: killed" {
		t.Errorf("after Close: %v, %s", err, second.State())
	}
	if _, err := g.Start("three", exec.Command("true")); err == nil || !strings.Contains(err.Error(), "the lab is closed") {
		t.Errorf("Start in a closed group: %v", err)
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	g := NewGroup(t.TempDir(), false)
	defer g.Close()
	p, err := g.Start("one", exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Wait(ctx); err == nil || !strings.Contains(err.Error(), "cannot wait for the end of one") {
		t.Errorf("error is %v", err)
	}
}

func TestFreezeStopsAllThreads(t *testing.T) {
	g := NewGroup(t.TempDir(), false)
	defer g.Close()
	// The thread of an endless loop does not stop by itself.
	p, err := g.Start("loop", exec.Command("sh", "-c", "while :; do :; done"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.running(); err != nil || n != 1 {
		t.Errorf("%d threads run (%v), want 1", n, err)
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	if n, err := p.running(); err != nil || n != 0 {
		t.Errorf("%d threads run after Freeze (%v)", n, err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Freeze(); err == nil {
		t.Error("a process that has ended was frozen")
	}
}
