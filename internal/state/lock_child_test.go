package state_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// The child of a run that was killed between fork and exec holds the lock for a
// moment. It is not reported as another run.
func TestLockHeldByTheChildOfADeadRunIsAwaited(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, state.LockPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	record := `{"pid": ` + strconv.Itoa(dead.Process.Pid) + `, "command": "run"}`
	if err := os.WriteFile(filepath.Join(root, state.HolderPath), []byte(record), 0o644); err != nil {
		t.Fatal(err)
	}
	child, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(child.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = child.Close() })
	lock, err := state.AcquireLock(host.New(root), state.CommandRun)
	if err != nil {
		t.Fatalf("cannot take the lock from the child of a dead run: %v", err)
	}
	_ = lock.Release()
}
