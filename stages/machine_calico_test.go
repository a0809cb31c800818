package stages_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/projecteru2/firstboot/internal/dockerd"
)

// fakeCluster is what the hosts of one cluster share: the etcd, Docker's global
// networks with the names of their endpoints, and the addresses of the pool.
type fakeCluster struct {
	t        testing.TB
	endpoint string
	etcd     *clientv3.Client // nil without an etcd

	mu           sync.Mutex
	count        int // number of hosts
	networks     []dockerd.Network
	endpoints    map[string]string // addresses by container name, in the whole cluster
	foreignNames map[string]bool   // names of containers on other hosts
	addresses    int
	created      map[string]int // number of creations by kind
	pause        *pause         // where a command or daemon pauses; nil: nowhere
}

// pause stops a daemon or command at a point of its work, once, so that a test
// can kill the run that started it.
type pause struct {
	point    string
	reached  chan struct{} // closed when the point is reached
	released chan struct{} // closed by the test to let it continue
	powerCut bool          // the work ends at the point
	once     sync.Once
}

// pauseAt is a point at which a test may pause the work. It reports whether the
// work ends there.
func (f *fakeCluster) pauseAt(point string) bool {
	p := f.pause
	if p == nil || p.point != point {
		return false
	}
	ended := false
	p.once.Do(func() {
		close(p.reached)
		<-p.released
		ended = p.powerCut
	})
	return ended
}

// newCluster makes a cluster with the etcd at endpoint, and empties the etcd.
func newCluster(t testing.TB, endpoint string) *fakeCluster {
	t.Helper()
	return newClusterWithTLS(t, endpoint, nil)
}

// newClusterWithTLS is newCluster for an etcd with TLS, which the test itself uses
// with a configuration of its own.
func newClusterWithTLS(t testing.TB, endpoint string, tls *tls.Config) *fakeCluster {
	t.Helper()
	f := &fakeCluster{t: t, endpoint: endpoint, endpoints: map[string]string{}, created: map[string]int{}}
	if endpoint == noEtcd {
		return f
	}
	var err error
	if f.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: tls}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.etcd.Close() })
	ctx, cancel := etcdContext()
	defer cancel()
	if _, err := f.etcd.Delete(ctx, "\x00", clientv3.WithFromKey()); err != nil {
		t.Fatal(err)
	}
	return f
}

func etcdContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

// addHost counts one more host and returns the number of hosts.
func (f *fakeCluster) addHost() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	return f.count
}

func (f *fakeCluster) dockerNetworks() []dockerd.Network {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]dockerd.Network(nil), f.networks...)
}

// addNetwork creates a network through the plugin. It checks the name first and
// writes later, as Docker does: two hosts at the same time would both create it.
func (f *fakeCluster) addNetwork(n dockerd.Network) (string, error) {
	for _, other := range f.dockerNetworks() {
		if other.Name == n.Name {
			return "", fmt.Errorf("network with name %s already exists", n.Name)
		}
	}
	f.mu.Lock()
	f.created["network"]++
	n.ID, n.Scope = fmt.Sprintf("%064d", f.created["network"]), "global"
	f.mu.Unlock()
	if err := f.claimPool(n); err != nil {
		return "", err
	}
	if f.pauseAt("the pool is bound to a network that is not stored") {
		return "", errPower
	}
	f.mu.Lock()
	f.networks = append(f.networks, n)
	f.mu.Unlock()
	if f.pauseAt("the network is stored") {
		return "", errPower
	}
	return n.ID, nil
}

var errPower = errors.New("the power was cut")

// claimPool changes the pool of the network's subnet as the plugin does: it binds
// the pool to the network and strips newer fields. If there is no Profile, it
// creates one that drops incoming traffic.
func (f *fakeCluster) claimPool(n dockerd.Network) error {
	if f.etcd == nil {
		return nil
	}
	for _, name := range f.names("ippools") {
		pool := f.resource("ippools", name)
		if spec(pool)["cidr"] != n.Subnets()[0] {
			continue
		}
		meta(pool)["annotations"] = map[string]any{networkAnnotation: n.ID}
		delete(spec(pool), "vxlanMode")
		f.store("ippools", name, pool)
		if f.resource("profiles", name) == nil {
			f.store("profiles", name, resource("Profile", name, map[string]any{"egress": []any{map[string]any{"action": "Allow"}}}))
		}
		return nil
	}
	return errors.New("IpamDriver.RequestPool: The requested subnet must match the CIDR of a configured Calico IP Pool")
}

const networkAnnotation = "org.projectcalico.label.network.ID"

// join gives a container an address from the pool that is bound to the network.
func (f *fakeCluster) join(name, network string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, joined := f.endpoints[name]; joined || f.foreignNames[name] {
		return "", fmt.Errorf("endpoint with name %s already exists in network", name)
	}
	cidr := netip.MustParsePrefix("10.213.0.0/16")
	if f.etcd != nil {
		found := ""
		for _, pool := range f.names("ippools") {
			p := f.resource("ippools", pool)
			if a, _ := meta(p)["annotations"].(map[string]any); a[networkAnnotation] == network {
				found, _ = spec(p)["cidr"].(string)
			}
		}
		if found == "" {
			return "", errors.New("IpamDriver.RequestAddress: no pool is bound to the network")
		}
		cidr = netip.MustParsePrefix(found)
	}
	f.addresses++
	b := cidr.Addr().As4()
	b[3] = byte(f.addresses)
	address := netip.AddrFrom4(b).String()
	f.endpoints[name] = address
	return address, nil
}

func (f *fakeCluster) release(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, joined := f.endpoints[name]
	delete(f.endpoints, name)
	return joined
}

const calicoKeys = "/calico/resources/v3/projectcalico.org/"

func resource(kind, name string, spec map[string]any) map[string]any {
	return map[string]any{"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec}
}

func meta(r map[string]any) map[string]any { return r["metadata"].(map[string]any) }
func spec(r map[string]any) map[string]any { return r["spec"].(map[string]any) }

// names lists the names of a kind's resources in etcd.
func (f *fakeCluster) names(kind string) []string {
	ctx, cancel := etcdContext()
	defer cancel()
	got, err := f.etcd.Get(ctx, calicoKeys+kind+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		f.t.Error(err)
		return nil
	}
	var names []string
	for _, kv := range got.Kvs {
		names = append(names, strings.TrimPrefix(string(kv.Key), calicoKeys+kind+"/"))
	}
	return names
}

// resource reads a resource from etcd. It returns nil if it does not exist.
func (f *fakeCluster) resource(kind, name string) map[string]any {
	ctx, cancel := etcdContext()
	defer cancel()
	got, err := f.etcd.Get(ctx, calicoKeys+kind+"/"+name)
	if err != nil {
		f.t.Error(err)
	}
	if err != nil || len(got.Kvs) == 0 {
		return nil
	}
	var r map[string]any
	if err := json.Unmarshal(got.Kvs[0].Value, &r); err != nil {
		f.t.Error(err)
	}
	return r
}

func (f *fakeCluster) store(kind, name string, r map[string]any) {
	ctx, cancel := etcdContext()
	defer cancel()
	data, err := json.Marshal(r)
	if err == nil {
		_, err = f.etcd.Put(ctx, calicoKeys+kind+"/"+name, string(data))
	}
	if err != nil {
		f.t.Error(err)
	}
}

// create stores a resource if it does not exist yet, and reports whether it did,
// in one transaction.
func (f *fakeCluster) create(kind, name string, r map[string]any) (bool, error) {
	ctx, cancel := etcdContext()
	defer cancel()
	data, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	key := calicoKeys + kind + "/" + name
	done, err := f.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, string(data))).Commit()
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if done.Succeeded {
		f.created[kind]++
	}
	return done.Succeeded, nil
}

// enableAuth makes the etcd require a user.
func (f *fakeCluster) enableAuth() {
	f.t.Helper()
	ctx, cancel := etcdContext()
	defer cancel()
	_, err := f.etcd.RoleAdd(ctx, "root")
	if err == nil {
		_, err = f.etcd.UserAdd(ctx, "root", "secret")
	}
	if err == nil {
		_, err = f.etcd.UserGrantRole(ctx, "root", "root")
	}
	if err == nil {
		_, err = f.etcd.AuthEnable(ctx)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// delete removes the pool or its Profile from etcd.
func (f *fakeCluster) delete(kind string) {
	ctx, cancel := etcdContext()
	defer cancel()
	if _, err := f.etcd.Delete(ctx, calicoKeys+kind+"/firstboot"); err != nil {
		f.t.Error(err)
	}
}

// remove deletes one resource from etcd.
func (f *fakeCluster) remove(kindAndName string) {
	ctx, cancel := etcdContext()
	defer cancel()
	if _, err := f.etcd.Delete(ctx, calicoKeys+kindAndName); err != nil {
		f.t.Error(err)
	}
}

// reset removes the pool, its Profile and its network.
func (f *fakeCluster) reset() {
	f.delete("ippools")
	f.delete("profiles")
	f.networks = nil
}

// revision returns etcd's revision of the last change to Calico's keys.
func (f *fakeCluster) revision() int64 {
	ctx, cancel := etcdContext()
	defer cancel()
	got, err := f.etcd.Get(ctx, calicoKeys, append(clientv3.WithLastRev(), clientv3.WithPrefix())...)
	if err != nil || len(got.Kvs) == 0 {
		f.t.Errorf("cannot read the revision: %v", err)
		return 0
	}
	return got.Kvs[0].ModRevision
}
