package program

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestCommandSurvivesTheEndOfOtherThreads: goroutines that never unlock their
// thread end it, also one that Go would otherwise use for other goroutines.
func TestCommandSurvivesTheEndOfOtherThreads(t *testing.T) {
	cmd := exec.Command(Need(t, "sleep"), "60")
	ended, err := Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	var locked, finished sync.WaitGroup
	release := make(chan struct{})
	for range 64 { // more than there are idle threads
		locked.Add(1)
		finished.Go(func() {
			runtime.LockOSThread()
			locked.Done()
			<-release
		})
	}
	locked.Wait()
	close(release)
	finished.Wait()
	select {
	case <-ended:
		t.Fatalf("the command ended: %s", cmd.ProcessState)
	case <-time.After(100 * time.Millisecond):
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestStartReturnsTheError(t *testing.T) {
	if _, err := Start(exec.Command("/no/such/program"), syscall.SIGKILL); err == nil {
		t.Error("no error")
	}
}
