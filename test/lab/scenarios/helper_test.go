//go:build lab

package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/labtest"
)

const (
	// joinTimeout limits a join. Two machines under TCG on two idle cores need two
	// and a half minutes.
	joinTimeout = 15 * time.Minute
	// commandTimeout limits a command on a host. firstboot status takes 10 s under
	// TCG, and some minutes if all machines are busy.
	commandTimeout = 5 * time.Minute
)

// runOnAll runs a command on all hosts in parallel. Each must exit with code and
// print all parts.
func runOnAll(t *testing.T, l *lab.Lab, code int, command string, parts ...string) {
	t.Helper()
	ctx := labtest.Within(t, commandTimeout)
	labtest.NoError(t, l.Each(func(h *lab.Host) error {
		r, err := h.Run(ctx, command)
		if err == nil && (r.Code != code || !containsAll(r.Stdout+r.Stderr, parts)) {
			err = fmt.Errorf("%q exited with %d, want %d and %q:\n%s%s", command, r.Code, code, parts, r.Stdout, r.Stderr)
		}
		return err
	}))
}

// complete waits until the host reports that it is complete.
func complete(t *testing.T, h *lab.Host) {
	t.Helper()
	labtest.NoError(t, h.WaitComplete(labtest.Within(t, joinTimeout)))
}

// console waits for a console line that contains all parts. It ignores the first
// from bytes of the console.
func console(t *testing.T, h *lab.Host, from int, timeout time.Duration, parts ...string) string {
	t.Helper()
	var found string
	err := h.Wait(labtest.Within(t, timeout), fmt.Sprintf("%q on the console", parts), func(context.Context) error {
		text := h.Console.Text()
		for line := range strings.Lines(text[min(from, len(text)):]) {
			if containsAll(line, parts) {
				found = strings.TrimSpace(line)
				return nil
			}
		}
		return fmt.Errorf("the end of the console is:\n%s", h.Console.Tail(5))
	})
	labtest.NoError(t, err)
	return found
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(labtest.Unwrapped(text), labtest.Unwrapped(part)) {
			return false
		}
	}
	return true
}

// consoleLength returns the current length of the host's console, as an argument
// for console.
func consoleLength(h *lab.Host) int { return len(h.Console.Text()) }

// address returns the current address of a container. A restart can change it.
func address(t *testing.T, c lab.Container) netip.Addr {
	t.Helper()
	text := labtest.Run(t, c.Host, 0, "docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "+c.Name)
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	labtest.NoError(t, err)
	return a
}

// calicoctl runs the lab's calicoctl in the lab's network, but not on a host.
func calicoctl(t *testing.T, l *lab.Lab, input string, args ...string) string {
	t.Helper()
	ctx := labtest.Within(t, time.Minute)
	args = append([]string{"netns", "exec", l.Net.Namespace, l.Parts.Calicoctl, "--allow-version-mismatch"}, args...)
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Env = append(os.Environ(), l.Etcd.CalicoctlEnvironment()...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("calicoctl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// etcdKeys lists the keys below a prefix, with their values.
func etcdKeys(t *testing.T, l *lab.Lab, prefix string) string {
	t.Helper()
	answer, err := l.Etcd.Range(labtest.Within(t, time.Minute), prefix)
	labtest.NoError(t, err)
	return answer
}

// buildFirstboot builds firstboot with another version.
func buildFirstboot(t *testing.T, version string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "firstboot")
	labtest.NoError(t, lab.BuildFirstboot(labtest.Within(t, 5*time.Minute), path, "LDFLAGS=-s -w -X main.linked="+version))
	data, err := os.ReadFile(path)
	labtest.NoError(t, err)
	return data
}
