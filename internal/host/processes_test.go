package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
)

// readPID waits for a file with a pid.
func readPID(t *testing.T, path string) int {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		data, err := os.ReadFile(path)
		if pid, err2 := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && err2 == nil {
			return pid
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%s does not appear", path)
	return 0
}

// running reports whether a process runs; a zombie does not.
func running(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(data), ") Z ")
}

// TestChildrenOfAKilledCommandAreKilled: a child that ignores SIGTERM, holds the
// pipes open or is in another session must not go on changing the machine.
func TestChildrenOfAKilledCommandAreKilled(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"in the background":     `sh -c 'echo $$ >PID; sleep 600' & wait`,
		"ignores SIGTERM":       `trap "" TERM; sh -c 'trap "" TERM; echo $$ >PID; while :; do sleep 1; done' & while :; do sleep 1; done`,
		"without pipes":         `sh -c 'trap "" TERM; echo $$ >PID; while :; do sleep 1; done' </dev/null >/dev/null 2>&1 & wait`,
		"in another session":    `setsid sh -c 'trap "" TERM; echo $$ >PID; while :; do sleep 1; done' & sleep 600`,
		"grandchild in session": `sh -c 'setsid sh -c "echo \$\$ >PID; sleep 600" & sleep 600' & sleep 600`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := New("/").Query(ctx, Command{Name: "sh", Args: []string{"-c", strings.ReplaceAll(script, "PID", file)}, Timeout: time.Minute})
				done <- err
			}()
			child := readPID(t, file)
			cancel()
			select {
			case err := <-done:
				if err == nil {
					t.Error("no error")
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the command does not end")
			}
			for deadline := time.Now().Add(5 * time.Second); running(child) && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			}
			if running(child) {
				_ = syscall.Kill(child, syscall.SIGKILL)
				t.Error("the child still runs")
			}
		})
	}
}

// A command whose child keeps the pipes open ends nevertheless.
func TestTimeoutEndsACommandWhoseChildHoldsThePipes(t *testing.T) {
	t.Parallel()
	start := time.Now()
	_, err := New("/").Query(t.Context(), Command{Name: "sh", Args: []string{"-c", `trap "" TERM; sleep 600 & sleep 600`}, Timeout: 200 * time.Millisecond})
	var failed *CommandError
	if !errors.As(err, &failed) || failed.TimedOut != 200*time.Millisecond {
		t.Errorf("%v", err)
	}
	if took := time.Since(start); took > killDelay+10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestOutputInErrorsIsShortAndPrintable(t *testing.T) {
	t.Parallel()
	script := `printf '\033[31mred\n'; head -c 3000000 /dev/zero | tr '\0' x; printf '\nlast \033[0mline\n'; exit 3`
	for _, to := range []string{"", ">&2"} {
		_, err := New("/").Query(t.Context(), Command{Name: "sh", Args: []string{"-c", "{ " + strings.TrimSuffix(script, "exit 3") + "; } " + to + "; exit 3"}, Timeout: time.Minute})
		if err == nil || len(err.Error()) > 700 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%.800q", err)
		}
	}
	_, err := New("/").Query(t.Context(), Command{Name: "sh", Args: []string{"-c", `printf 'first\nwhy \033[31mit failed\n' >&2; exit 3`}, Timeout: time.Minute})
	if err == nil || !strings.HasSuffix(err.Error(), "first | why ?[31mit failed") {
		t.Errorf("%q", err)
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1\n"
	if pid, parent, start, ok := parseStat(line); !ok || pid != 42 || parent != 7 || start != "12345" {
		t.Errorf("%d, %d, %q, %v", pid, parent, start, ok)
	}
	for _, bad := range []string{"", "42", "42 (a", "x (a) S 7", "42 (a) S 7 1 2 3"} {
		if _, _, _, ok := parseStat(bad); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
}
