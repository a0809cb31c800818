package program

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestCommandSurvivesTheEndOfTheCallersThread: a goroutine that never unlocks its
// thread ends it.
func TestCommandSurvivesTheEndOfTheCallersThread(t *testing.T) {
	for range 3 { // Go never ends the main thread, which one goroutine may be on
		cmd := exec.Command(Need(t, "sleep"), "60")
		var ended <-chan struct{}
		var err error
		returned := make(chan struct{})
		go func() {
			defer close(returned)
			runtime.LockOSThread()
			ended, err = Start(cmd, syscall.SIGKILL)
		}()
		<-returned
		if err != nil {
			t.Fatal(err)
		}
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
}

func TestStartReturnsTheError(t *testing.T) {
	if _, err := Start(exec.Command("/no/such/program"), syscall.SIGKILL); err == nil {
		t.Error("no error")
	}
}
