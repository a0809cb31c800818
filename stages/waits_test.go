package stages

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/fault"
)

// Only time can resolve a wait, so only a transient error becomes one.
func TestOnlyATransientErrorIsAWaitForEtcd(t *testing.T) {
	e := &Env{Config: config.Default()}
	other := &engine.Wait{For: "a route to etcd"}
	for name, c := range map[string]struct {
		err  error
		want fault.Class
		same bool
	}{
		"etcd does not answer":     {fault.New(fault.Transient, fault.Timeout, errors.New("no")), fault.Transient, false},
		"a wrong password":         {fault.New(fault.Permanent, fault.Auth, errors.New("no")), fault.Permanent, true},
		"a value in etcd":          {fault.New(fault.Permanent, fault.Data, errors.New("not JSON")), fault.Permanent, true},
		"no address of this host":  {engine.WithHint(errors.New("no address matches host.address"), "set it"), fault.Unclassified, true},
		"a wait for another thing": {fmt.Errorf("no: %w", other), fault.Transient, true},
		"the lock was lost":        {errLockLost, fault.Transient, false},
	} {
		err := e.etcdWait(c.err)
		if fault.ClassOf(err) != c.want || (err == c.err) != c.same {
			t.Errorf("%s: %v error %v", name, fault.ClassOf(err), err)
		}
	}
}

// A limited wait for a daemon is another attempt, not a wait without a limit.
func TestPollThatTimesOutIsRetryable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := fault.New(fault.Transient, fault.Refused, errors.New("connection refused"))
		err := (&Env{}).poll(t.Context(), time.Minute, func(context.Context) error { return refused })
		if fault.ClassOf(&engine.Retry{Err: err}) != fault.Retryable || !errors.Is(err, refused) {
			t.Errorf("%v error %v", fault.ClassOf(err), err)
		}
	})
}

func TestLimitOfApplyContainsTheConfiguredOnes(t *testing.T) {
	c := config.Default()
	c.Timeouts.Node, c.Timeouts.Download = time.Hour, 2*time.Hour
	e := &Env{Config: c}
	for _, s := range []engine.Limited{node{e}, docker{e}, calicoctl{e}, plugin{e}} {
		least := c.Timeouts.Download
		if s.Name() == "node" {
			least = c.Timeouts.Node + peerTimeout
		}
		if limit := s.ApplyLimit(); limit <= least || limit > least+time.Hour {
			t.Errorf("the limit of %s is %v, want a little more than %v", s.Name(), limit, least)
		}
	}
}
