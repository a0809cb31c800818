package calico

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/host"
)

// calicoctl is an executor that fails with a message and keeps the command.
type calicoctl struct {
	message string
	timeout time.Duration
	ran     host.Command
}

func (c *calicoctl) Run(_ context.Context, command host.Command) (host.Output, error) {
	c.ran = command
	return host.Output{Stderr: []byte(c.message)}, &host.CommandError{Command: "calicoctl", ExitCode: 1, TimedOut: c.timeout, Stderr: c.message}
}

// TestDoneIsNoError: what calicoctl was to do may be done already. An unreachable
// etcd, with which it hangs, passes with time.
func TestDoneIsNoError(t *testing.T) {
	pool := config.Default().Pool
	calls := map[string]func(*host.Host) error{
		"create": func(h *host.Host) error { return Create(t.Context(), h, IPPool(pool)) },
		"delete": func(h *host.Host) error { return DeleteNode(t.Context(), h, "host1") },
		"patch":  func(h *host.Host) error { return RepairPool(t.Context(), h, "firstboot", "f00") },
	}
	for name, call := range calls {
		for message, done := range map[string]string{"resource already exists": "create", "resource does not exist": "delete", "connection refused": "none"} {
			c := &calicoctl{message: message}
			if err := call(host.New(t.TempDir(), host.WithExecutor(c))); (err == nil) != (name == done) {
				t.Errorf("%s: %s: got %v", name, message, err)
			}
			if c.ran.Args[0] != name || !slices.Contains(c.ran.Args, "--config=/etc/calico/calicoctl.cfg") || c.ran.Timeout <= 0 {
				t.Errorf("%s: ran %s", name, c.ran)
			}
		}
		err := call(host.New(t.TempDir(), host.WithExecutor(&calicoctl{timeout: time.Minute})))
		var failed *host.CommandError
		if fault.ClassOf(err) != fault.Transient || fault.KindOf(err) != fault.Timeout || !errors.As(err, &failed) {
			t.Errorf("%s: timed out with %v (%v)", name, err, fault.ClassOf(err))
		}
	}
}

// TestRepairSetsAnnotationAndFieldTogether: a patch of the spec alone deletes the
// annotation.
func TestRepairSetsAnnotationAndFieldTogether(t *testing.T) {
	c := &calicoctl{}
	_ = RepairPool(t.Context(), host.New(t.TempDir(), host.WithExecutor(c)), "firstboot", "f00")
	want := `{"metadata":{"annotations":{"org.projectcalico.label.network.ID":"f00"}},"spec":{"vxlanMode":"Never"}}`
	if got := c.ran.Args[len(c.ran.Args)-1]; got != want || !strings.Contains(c.ran.String(), "patch ippool firstboot") {
		t.Errorf("ran %s", c.ran)
	}
}
