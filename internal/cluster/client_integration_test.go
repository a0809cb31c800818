//go:build integration

package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/client/v3"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/test/etcdtest"
)

// put writes a value as Calico or another client would.
func put(t *testing.T, c *Client, key, value string) {
	t.Helper()
	if _, err := c.etcd.Put(testContext(t), key, value); err != nil {
		t.Fatal(err)
	}
}

func TestCalicoResourcesAreRead(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 5*time.Second)
	ctx := testContext(t)
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	info, err := c.ClusterInformation(ctx)
	pool, err2 := c.Pool(ctx, "firstboot")
	profile, err3 := c.Profile(ctx, "firstboot")
	node, err4 := c.Node(ctx, "host1")
	if err := errors.Join(err, err2, err3, err4); err != nil || info != nil || pool != nil || profile != nil || node != nil {
		t.Fatalf("an empty etcd returned %v %v %v %v, %v", info, pool, profile, node, err)
	}

	put(t, c, calicoPrefix+"clusterinformations/default", infoValue)
	put(t, c, calicoPrefix+"ippools/firstboot", poolValue)
	put(t, c, calicoPrefix+"profiles/firstboot", allowValue)
	put(t, c, calicoPrefix+"nodes/host1", nodeValue)
	if info, err = c.ClusterInformation(ctx); err != nil || info == nil || info.CalicoVersion != "v3.23.0" {
		t.Errorf("ClusterInformation = %+v, %v", info, err)
	}
	if pool, err = c.Pool(ctx, "firstboot"); err != nil || pool == nil || pool.CIDR != "10.213.0.0/16" || pool.Revision == 0 {
		t.Errorf("Pool = %+v, %v", pool, err)
	}
	if profile, err = c.Profile(ctx, "firstboot"); err != nil || profile == nil || !profile.AllowsAll {
		t.Errorf("Profile = %+v, %v", profile, err)
	}
	if node, err = c.Node(ctx, "host1"); err != nil || node == nil || node.Address.String() != "10.0.0.1/24" {
		t.Errorf("Node = %+v, %v", node, err)
	}
}

func TestListsAreCompleteAndNameDamagedValues(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 10*time.Second)
	ctx := testContext(t)
	const nodes = 2*pageSize + 7
	for first := 0; first < nodes; first += 100 {
		var ops []clientv3.Op
		for i := first; i < min(first+100, nodes); i++ {
			name := fmt.Sprintf("host%04d", i)
			ops = append(ops, clientv3.OpPut(calicoPrefix+"nodes/"+name, strings.ReplaceAll(nodeValue, "host1", name)))
		}
		if _, err := c.etcd.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.Nodes(ctx)
	if err != nil || len(list) != nodes || list[0].Name != "host0000" || list[nodes-1].Name != fmt.Sprintf("host%04d", nodes-1) {
		t.Fatalf("%d nodes, %v; want %d", len(list), err, nodes)
	}
	put(t, c, calicoPrefix+"nodes/host0003", "\x1b[2J")
	list, err = c.Nodes(ctx)
	if len(list) != nodes-1 || err == nil || !strings.Contains(err.Error(), "Node host0003") {
		t.Errorf("%d nodes, %v; want the others, and the damaged one named", len(list), err)
	}
	// The next kind's keys begin with the same letters.
	put(t, c, calicoPrefix+"ippoolsx/other", poolValue)
	if pools, err := c.Pools(ctx); err != nil || len(pools) != 0 {
		t.Errorf("Pools = %v, %v; want none", pools, err)
	}
}

func TestServesV2OnRealEtcd(t *testing.T) {
	t.Parallel()
	with := dial(t, etcdtest.Start(t, etcdtest.Options{EnableV2: true}), 5*time.Second)
	if err := with.ServesV2(testContext(t)); err != nil {
		t.Errorf("ServesV2 = %v with --enable-v2", err)
	}
	without := dial(t, etcdtest.Start(t, etcdtest.Options{}), 5*time.Second)
	if err := without.ServesV2(testContext(t)); !errors.Is(err, ErrNoV2) {
		t.Errorf("ServesV2 = %v without --enable-v2, want ErrNoV2", err)
	}
}

// TestEtcdBesideASilentEndpoint: one etcd is enough, in any order.
func TestEtcdBesideASilentEndpoint(t *testing.T) {
	t.Parallel()
	etcd, silent := etcdtest.Start(t, etcdtest.Options{EnableV2: true}), "http://"+silentAddress(t)
	for _, endpoints := range [][]string{{silent, etcd.Endpoint}, {etcd.Endpoint, silent}} {
		c, err := Dial(Options{Endpoints: endpoints})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := errors.Join(c.Ping(testContext(t)), c.ServesV2(testContext(t))); err != nil || time.Since(start) > 5*time.Second {
			t.Errorf("with %v: %v after %s", endpoints, err, time.Since(start))
		}
		c.Close()
	}
}

func TestClientReconnectsAfterEtcdRestart(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 2*time.Second)
	put(t, c, calicoPrefix+"ippools/firstboot", poolValue)
	etcd.Kill()
	if err := c.Ping(testContext(t)); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Ping = %v for a killed etcd, want connection refused", err)
	}
	etcd.Restart()
	if pool, err := c.Pool(testContext(t), "firstboot"); err != nil || pool == nil {
		t.Errorf("Pool = %v, %v after etcd restarted", pool, err)
	}
}

func TestHostRecords(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	c := dial(t, etcd, 5*time.Second)
	ctx := testContext(t)
	when := time.Date(2026, 5, 9, 10, 11, 12, 0, time.UTC)
	first := HostRecord{Name: "host1", Address: "10.0.0.1", State: "running", Stage: "node", Attempt: 2, Started: when, Updated: when}
	second := HostRecord{Name: "host2", State: "failed", Error: "two\nlines \x1b[31m", Updated: when}
	for _, r := range []HostRecord{first, second} {
		if err := c.PutHostRecord(ctx, r, 0); err != nil {
			t.Fatal(err)
		}
	}
	second.Error = "two lines ?[31m"
	put(t, c, hostsPrefix+"host3", "garbage")
	put(t, c, hostsPrefix+"host4", `{"name":"host1","state":"complete"}`)
	list, err := c.HostRecords(ctx)
	if err != nil || len(list) != 4 {
		t.Fatalf("%d records, %v; want 4", len(list), err)
	}
	if diff := cmp.Diff([]HostRecord{first, second}, list[:2]); diff != "" {
		t.Error(diff)
	}
	for _, r := range list[2:] {
		if r.State != StateUnreadable || r.Error == "" || r.Name != "host3" && r.Name != "host4" {
			t.Errorf("a damaged record is listed as %+v", r)
		}
	}

	first.State = "complete"
	if err := c.PutHostRecord(ctx, first, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteHostRecord(ctx, "host2"); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for list, err = c.HostRecords(ctx); len(list) != 2 && err == nil; list, err = c.HostRecords(ctx) {
		<-tick.C
	}
	if err != nil || list[0].Name != "host3" {
		t.Errorf("%v, %v; want host1's record expired and host2's deleted", list, err)
	}
	for _, name := range []string{"", "a/b", "Host", "host\n"} {
		if err := c.PutHostRecord(ctx, HostRecord{Name: name}, 0); err == nil {
			t.Errorf("host %q was recorded", name)
		}
	}
	if err := c.PutHostRecord(ctx, HostRecord{Name: "h", Version: strings.Repeat("v", maxRecord)}, 0); err == nil {
		t.Error("a record that is too large was written")
	}
}

func TestEtcdUsers(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.Options{})
	root := dial(t, etcd, 5*time.Second)
	ctx := testContext(t)
	for _, step := range []func() error{
		func() error { _, err := root.etcd.UserAdd(ctx, "root", "secret-of-root"); return err },
		func() error { _, err := root.etcd.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := root.etcd.UserAdd(ctx, "poor", "secret-of-poor"); return err },
		func() error { _, err := root.etcd.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	open := func(user, password string) (*Client, error) {
		return Dial(Options{Endpoints: []string{etcd.Endpoint}, Username: user, Password: password, Timeout: 5 * time.Second})
	}
	c, err := open("root", "secret-of-root")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ping(ctx); err != nil {
		t.Errorf("Ping = %v as root", err)
	}
	if _, err := open("root", "wrong-password"); !fault.IsPermanent(err) || strings.Contains(fmt.Sprint(err), "wrong-password") {
		t.Errorf("Dial = %v with a wrong password; want a permanent error without it", err)
	}
	poor, err := open("poor", "secret-of-poor")
	if err != nil {
		t.Fatal(err)
	}
	defer poor.Close()
	if err := poor.Ping(ctx); err != nil {
		t.Errorf("Ping = %v as a user without permissions; want nil, because etcd answers", err)
	}
	if _, err := poor.Pools(ctx); !fault.IsPermanent(err) {
		t.Errorf("Pools = %v as a user without permissions, want a permanent error", err)
	}
}

// Not parallel: it counts goroutines.
func TestNoGoroutineLeaks(t *testing.T) {
	etcd := etcdtest.Start(t, etcdtest.Options{})
	uses := 0
	use := func() {
		c, err := Dial(Options{Endpoints: []string{etcd.Endpoint}, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		l := lock(t, c, "host1", 2*time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := c.Lock(ctx, "pool", "host2", 2*time.Second, func(string) { cancel() }); err == nil {
			t.Error("host2 acquired the lock that host1 holds")
		}
		l.Unlock()
		// This lock is still held when the client is closed.
		uses++
		if _, err := c.Lock(testContext(t), fmt.Sprintf("abandoned%d", uses), "host3", 30*time.Second, nil); err != nil {
			t.Error(err)
		}
	}
	use()
	before := runtime.NumGoroutine()
	for range 5 {
		use()
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	ctx := testContext(t)
	for runtime.NumGoroutine() > before+2 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
