package state_test

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// TestMain makes this binary a process that holds the lock.
func TestMain(m *testing.M) {
	if root := os.Getenv("STATE_TEST_HOLD_LOCK"); root != "" {
		if _, err := state.AcquireLock(host.New(root), state.CommandRun); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("held\n")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		return
	}
	os.Exit(runTests(m))
}

// runTests runs the tests with their directories in memory if possible: on a busy
// disk they spend most of their time in fsync.
func runTests(m *testing.M) int {
	if dir, err := os.MkdirTemp("/dev/shm", "firstboot-state-test-"); err == nil {
		defer os.RemoveAll(dir)
		os.Setenv("TMPDIR", dir)
	}
	return m.Run()
}

func TestLockHolderIsNamedAndItsDeathReleasesTheLock(t *testing.T) {
	root := t.TempDir()
	h := host.New(root)
	if _, held := state.LockHolder(h); held {
		t.Error("the lock is held before it was taken")
	}
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "STATE_TEST_HOLD_LOCK="+root)
	stdin, _ := holder.StdinPipe()
	stdout, _ := holder.StdoutPipe()
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, err := state.AcquireLock(h, state.CommandLeave)
	var held *state.LockHeldError
	if !errors.As(err, &held) || held.Holder.PID != holder.Process.Pid {
		t.Errorf("got %v, want the pid %d", err, holder.Process.Pid)
	}
	if by, held := state.LockHolder(h); !held || by.PID != holder.Process.Pid || by.Command != state.CommandRun {
		t.Errorf("holder %v, %v", by, held)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	_ = stdin.Close()
	lock, err := state.AcquireLock(h, state.CommandLeave)
	if err != nil {
		t.Fatalf("the lock is still held after its holder died: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

// Whoever may open the lock can hold it and make every run fail.
func TestOnlyRootCanOpenTheLock(t *testing.T) {
	h := host.New(t.TempDir())
	for name, mode := range map[string]fs.FileMode{"new": 0, "of an earlier version": 0o644} {
		if mode != 0 {
			writeFile(t, h, state.LockPath, "")
			if err := os.Chmod(h.RealPath(state.LockPath), mode); err != nil {
				t.Fatal(err)
			}
		}
		lock, err := state.AcquireLock(h, state.CommandRun)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]fs.FileMode{state.LockPath: 0o600, state.HolderPath: 0o644} {
			if info, err := os.Stat(h.RealPath(path)); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %s has mode %v, want %v, %v", name, path, info.Mode(), want, err)
			}
		}
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	}
}

// hold makes an open file of this process hold the lock, without a record.
func hold(t *testing.T, h *host.Host) {
	t.Helper()
	writeFile(t, h, state.LockPath, "")
	f, err := os.OpenFile(h.RealPath(state.LockPath), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
}

func TestLockOfAnotherProcessIsNotARun(t *testing.T) {
	this := strconv.Itoa(os.Getpid())
	for name, record := range map[string]string{
		"no record":                          "",
		"not a record":                       "{half",
		"a PID that is not one":              `{"pid": -1, "command": "run"}`,
		"a PID that another process has now": `{"pid": ` + this + `, "command": "run", "started": 1}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := host.New(t.TempDir())
			hold(t, h)
			if record != "" {
				writeFile(t, h, state.HolderPath, record)
			}
			if by, held := state.LockHolder(h); held {
				t.Errorf("%s: status would report a run: %+v", name, by)
			}
			_, err := state.AcquireLock(h, state.CommandRun)
			var held *state.LockHeldError
			if !errors.As(err, &held) || err.Error() != "another process holds the lock" {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// A record that is a FIFO, or a lock that is one, does not block a command.
func TestFIFOInsteadOfTheLockDoesNotHang(t *testing.T) {
	h := host.New(t.TempDir())
	writeFile(t, h, "/run/firstboot/x", "")
	if err := errors.Join(unix.Mkfifo(h.RealPath(state.LockPath), 0o600), unix.Mkfifo(h.RealPath(state.HolderPath), 0o600)); err != nil {
		t.Fatal(err)
	}
	if by, held := state.LockHolder(h); held {
		t.Errorf("held by %+v", by)
	}
	if lock, err := state.AcquireLock(h, state.CommandRun); err == nil {
		_ = lock.Release()
	}
}
