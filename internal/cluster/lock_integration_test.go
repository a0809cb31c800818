//go:build integration

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/test/etcdtest"
)

// deadline limits every test in this file.
const deadline = 60 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, s *etcdtest.Server, timeout time.Duration) *Client {
	t.Helper()
	c, err := Dial(Options{Endpoints: []string{s.Endpoint}, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func lock(t *testing.T, c *Client, owner string, ttl time.Duration) *Lock {
	t.Helper()
	l, err := c.Lock(testContext(t), "pool", owner, ttl, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// die stops a client as a power cut does: nothing is released.
func die(c *Client, l *Lock) {
	l.lease.stop()
	<-l.lease.done
	c.Close()
}

func TestWaitingHostLearnsTheHolder(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	first, second := dial(t, etcd, 5*time.Second), dial(t, etcd, 5*time.Second)
	held := lock(t, first, "host1", 5*time.Second)
	ctx := testContext(t)
	if owner, err := second.Holder(ctx, "pool"); err != nil || owner != "host1" {
		t.Fatalf("Holder = %q, %v; want host1", owner, err)
	}

	waiting, got := make(chan string, 10), make(chan error, 1)
	go func() {
		l, err := second.Lock(ctx, "pool", "host2", 5*time.Second, func(holder string) { waiting <- holder })
		if err == nil {
			if owner, _ := first.Holder(ctx, "pool"); owner != "host2" {
				err = fmt.Errorf("Holder = %q, want host2", owner)
			}
			l.Unlock()
		}
		got <- err
	}()
	if holder := <-waiting; holder != "host1" {
		t.Errorf("waiting for %q, want host1", holder)
	}
	select {
	case err := <-got:
		t.Fatalf("host2 did not wait for host1: %v", err)
	default:
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	select {
	case <-held.Done():
	default:
		t.Error("Done is open after Unlock")
	}
	if owner, err := first.Holder(ctx, "pool"); err != nil || owner != "" {
		t.Errorf("Holder = %q, %v after all unlocked; want none", owner, err)
	}
}

func TestLockOfADeadHolderExpires(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	dead, other := dial(t, etcd, 5*time.Second), dial(t, etcd, 5*time.Second)
	const ttl = 3 * time.Second
	held := lock(t, dead, "host1", ttl)
	die(dead, held)
	died := time.Now()
	l := lock(t, other, "host2", ttl)
	defer l.Unlock()
	// etcd checks for expired leases every half second.
	if took := time.Since(died); took > ttl+3*time.Second {
		t.Errorf("the lock was free %v after its holder died, want at most the lease of %v", took, ttl)
	} else if took < ttl/2 {
		t.Errorf("the lock was free %v after its holder died, before the end of its lease of %v", took, ttl)
	}
}

// TestOneOfTenClientsHoldsTheLock: the first holder is killed. All others acquire
// the lock, and never two at the same time.
func TestOneOfTenClientsHoldsTheLock(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	ctx := testContext(t)
	killed := dial(t, etcd, 5*time.Second)
	held := lock(t, killed, "host0", 2*time.Second)

	var inside, most, served atomic.Int32
	var wg sync.WaitGroup
	for i := 1; i < 10; i++ {
		c := dial(t, etcd, 5*time.Second)
		wg.Go(func() {
			l, err := c.Lock(ctx, "pool", fmt.Sprintf("host%d", i), 2*time.Second, func(string) {})
			if err != nil {
				t.Errorf("host%d: %v", i, err)
				return
			}
			now := inside.Add(1)
			for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
			}
			// Work under the lock for one round trip: long enough for a second
			// holder to appear.
			if owner, err := c.Holder(ctx, "pool"); err != nil || owner != fmt.Sprintf("host%d", i) {
				t.Errorf("host%d holds the lock, Holder = %q, %v", i, owner, err)
			}
			served.Add(1)
			inside.Add(-1)
			if err := l.Unlock(); err != nil {
				t.Errorf("host%d: %v", i, err)
			}
		})
	}
	die(killed, held)
	wg.Wait()
	if served.Load() != 9 || most.Load() != 1 {
		t.Errorf("%d of 9 acquired the lock, at most %d at once; want 9 and 1", served.Load(), most.Load())
	}
}

func TestLockIsAcquiredInOrder(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 5*time.Second)
	held := lock(t, c, "host0", 5*time.Second)
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	for i := 1; i <= 4; i++ {
		queued := make(chan struct{}, 8)
		name := fmt.Sprintf("host%d", i)
		wg.Go(func() {
			l, err := c.Lock(testContext(t), "pool", name, 5*time.Second, func(string) { queued <- struct{}{} })
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			l.Unlock()
		})
		<-queued
	}
	held.Unlock()
	wg.Wait()
	if want := []string{"host1", "host2", "host3", "host4"}; !slices.Equal(order, want) {
		t.Errorf("acquired by %v, want %v", order, want)
	}
}

func TestDoneIsClosedBeforeTheLeaseExpires(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 2*time.Second)
	const ttl = 6 * time.Second
	held := lock(t, c, "host1", ttl)
	etcd.Pause()
	// On a busy machine this timer is delayed as much as the lock's own timer.
	expired := time.NewTimer(ttl)
	defer expired.Stop()
	select {
	case <-held.Done():
	case <-expired.C:
		t.Errorf("Done is not closed %v after etcd was paused, the time of the lease", ttl)
	}
	start := time.Now()
	if err := held.Unlock(); err == nil || !strings.Contains(err.Error(), "expires within") {
		t.Errorf("Unlock = %v, want an error with the time of expiry", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Unlock took %v while etcd was paused", took)
	}
	etcd.Resume()
	l := lock(t, c, "host2", ttl)
	l.Unlock()
}

func TestHeldLockIsRenewed(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 5*time.Second)
	const ttl = 2 * time.Second
	held := lock(t, c, "host1", ttl)
	other := dial(t, etcd, 5*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 3*ttl)
	defer cancel()
	l, err := other.Lock(ctx, "pool", "host2", ttl, nil)
	if err == nil {
		l.Unlock()
		t.Fatal("host2 acquired a lock that host1 held")
	}
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "held by host1") {
		t.Errorf("Lock = %v, want deadline exceeded and the holder", err)
	}
	select {
	case <-held.Done():
		t.Error("the holder lost its lock")
	default:
	}
	if owner, err := c.Holder(testContext(t), "pool"); err != nil || owner != "host1" {
		t.Errorf("Holder = %q, %v; want host1", owner, err)
	}
}

// TestCanceledWaitLeavesTheQueue: a canceled wait removes its key.
func TestCanceledWaitLeavesTheQueue(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 5*time.Second)
	held := lock(t, c, "host1", 10*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.Lock(ctx, "pool", "host2", time.Minute, func(string) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatalf("Lock = %v, want canceled", err)
	}
	held.Unlock()
	start := time.Now()
	l := lock(t, c, "host3", 5*time.Second)
	defer l.Unlock()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("host3 waited %v for a host that had left", took)
	}
}

func TestWaitEndsIfEtcdStopsAnswering(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c, other := dial(t, etcd, time.Second), dial(t, etcd, time.Second)
	held := lock(t, c, "host1", 20*time.Second)
	defer held.Unlock()
	start := time.Now()
	_, err := other.Lock(testContext(t), "pool", "host2", 2*time.Second, func(string) { etcd.Pause() })
	etcd.Resume()
	if err == nil {
		t.Fatal("host2 acquired a lock from an etcd that did not answer")
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("the wait ended %v after etcd was paused: %v", took, err)
	}
}

func TestSemaphoreLimitsItsHolders(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	ctx := testContext(t)
	const slots, hosts = 3, 12
	var inside, most, served atomic.Int32
	var wg sync.WaitGroup
	for i := range hosts {
		c := dial(t, etcd, 5*time.Second)
		wg.Go(func() {
			l, err := c.Semaphore(ctx, "joining", fmt.Sprintf("host%d", i), slots, 5*time.Second, func(ahead int) {
				if ahead < 1 || ahead > hosts-slots {
					t.Errorf("%d ahead of host%d", ahead, i)
				}
			})
			if err != nil {
				t.Errorf("host%d: %v", i, err)
				return
			}
			now := inside.Add(1)
			for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
			}
			c.Ping(ctx)
			served.Add(1)
			inside.Add(-1)
			l.Unlock()
		})
	}
	wg.Wait()
	if served.Load() != hosts || most.Load() > slots || most.Load() < 2 {
		t.Errorf("%d of %d acquired a slot, at most %d at once; want all, and 2 to %d", served.Load(), hosts, most.Load(), slots)
	}
}

// TestSemaphoreUsesAnyReleasedSlot: the second holder may release its slot before
// the first.
func TestSemaphoreUsesAnyReleasedSlot(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 5*time.Second)
	ctx := testContext(t)
	enter := func(owner string, waiting func(int)) (*Lock, error) {
		return c.Semaphore(ctx, "joining", owner, 2, 10*time.Second, waiting)
	}
	first, err := enter("host1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Unlock()
	second, err := enter("host2", nil)
	if err != nil {
		t.Fatal(err)
	}
	third, err := enter("host3", func(ahead int) {
		if ahead != 1 {
			t.Errorf("%d ahead, want 1", ahead)
		}
		go second.Unlock()
	})
	if err != nil {
		t.Fatal(err)
	}
	third.Unlock()
}

func TestLockRejectsInvalidNames(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 5*time.Second)
	for _, name := range []string{"", "a/b", "../hosts", "A", "-", strings.Repeat("a", 64)} {
		if l, err := c.Lock(testContext(t), name, "host1", 2*time.Second, nil); err == nil {
			l.Unlock()
			t.Errorf("a lock named %q was acquired", name)
		}
	}
	if _, err := c.Semaphore(testContext(t), "joining", "host1", 0, 2*time.Second, nil); err == nil {
		t.Error("a semaphore without slots was acquired")
	}
}
