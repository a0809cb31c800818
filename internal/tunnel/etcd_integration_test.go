//go:build integration

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/test/certtest"
	"github.com/projecteru2/firstboot/test/etcdtest"
)

// secureEtcd is a real etcd with TLS and users. The user of a client is the CN of
// its certificate.
type secureEtcd struct {
	*etcdtest.Server
	ca *certtest.CA
}

func startSecureEtcd(t *testing.T) *secureEtcd {
	t.Helper()
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	server := ca.Issue("server", certtest.Certificate{CN: "server"})
	e := &secureEtcd{ca: ca, Server: etcdtest.Start(t, etcdtest.Options{TLS: true, Args: []string{
		"--cert-file", server.Cert, "--key-file", server.Key, "--client-cert-auth", "--trusted-ca-file", ca.File,
	}})}
	config, err := e.files("root").Config()
	if err != nil {
		t.Fatal(err)
	}
	root := etcdClient(t, clientv3.Config{Endpoints: []string{e.Endpoint}, TLS: config})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, user := range []string{"root", "host1"} {
		_, err := root.UserAddWithOptions(ctx, user, "", &clientv3.UserAddOptions{NoPassword: true})
		_, err2 := root.RoleAdd(ctx, user)
		_, err3 := root.UserGrantRole(ctx, user, user)
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatal(err)
		}
	}
	for _, prefix := range []string{"/calico/", "/barrel/"} {
		if _, err := root.RoleGrantPermission(ctx, "host1", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.AuthEnable(ctx); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *secureEtcd) files(cn string) certificate.Files {
	pair := e.ca.Issue("client-"+cn, certtest.Certificate{CN: cn})
	return certificate.Files{CA: e.ca.File, Cert: pair.Cert, Key: pair.Key}
}

// etcdClient is an unmodified client of etcd, as the plugin has.
func etcdClient(t *testing.T, c clientv3.Config) *clientv3.Client {
	t.Helper()
	c.Logger, c.DialTimeout = zap.NewNop(), limit
	client, err := clientv3.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// TestPlainClientUsesAnEtcdWithTLSAndUsers through the tunnel: reads, writes,
// transactions, leases and a watch, with the rights of the certificate's user.
func TestPlainClientUsesAnEtcdWithTLSAndUsers(t *testing.T) {
	t.Parallel()
	etcd := startSecureEtcd(t)
	r := start(t, Options{Endpoints: []string{"https://127.0.0.1:1", etcd.Endpoint}, Files: etcd.files("host1"), Username: "host1"})
	c := etcdClient(t, clientv3.Config{Endpoints: []string{"http://" + r.address}})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	watch := c.Watch(ctx, "/barrel/", clientv3.WithPrefix())
	lease, err := c.Grant(ctx, 60)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.text())
	}
	value := strings.Repeat("x", 1<<20)
	txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision("/barrel/a"), "=", 0)).
		Then(clientv3.OpPut("/barrel/a", value, clientv3.WithLease(lease.ID))).Commit()
	if err != nil || !txn.Succeeded {
		t.Fatalf("%+v, %v", txn, err)
	}
	if event := <-watch; event.Err() != nil || len(event.Events) != 1 || string(event.Events[0].Kv.Value) != value {
		t.Errorf("the watch reports %v", event.Err())
	}
	got, err := c.Get(ctx, "/barrel/a")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value {
		t.Errorf("Get = %v", err)
	}
	if _, err := c.Put(ctx, "/other", "x"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Put outside the user's rights = %v", err)
	}
}

// TestClientSurvivesARestartOfEtcd: the tunnel does not need
// etcd to serve.
func TestClientSurvivesARestartOfEtcd(t *testing.T) {
	t.Parallel()
	etcd := startSecureEtcd(t)
	etcd.Kill()
	r := start(t, Options{Endpoints: []string{etcd.Endpoint}, Files: etcd.files("host1")})
	c := etcdClient(t, clientv3.Config{Endpoints: []string{"http://" + r.address}})
	put := func(wait time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		_, err := c.Put(ctx, "/calico/a", "x")
		return err
	}
	if put(time.Second) == nil {
		t.Error("etcd is down, but answers")
	}
	r.waitFor("cannot reach etcd: " + strings.TrimPrefix(etcd.Endpoint, "https://") + ": connect: connection refused")
	etcd.Restart()
	if err := put(limit); err != nil {
		t.Errorf("%v\n%s", err, r.text())
	}
	r.waitFor("etcd at " + etcd.Endpoint + " answers again after")
	etcd.Restart()
	if err := put(limit); err != nil {
		t.Errorf("after a restart: %v\n%s", err, r.text())
	}
}

// TestRefusedCertificateIsNamed: with TLS 1.3 etcd refuses it after the handshake.
func TestRefusedCertificateIsNamed(t *testing.T) {
	t.Parallel()
	etcd := startSecureEtcd(t)
	stranger := certtest.NewCA(t, t.TempDir(), "stranger").Issue("c", certtest.Certificate{CN: "host1"})
	files := etcd.files("host1")
	files.Cert, files.Key = stranger.Cert, stranger.Key
	r := start(t, Options{Endpoints: []string{etcd.Endpoint}, Files: files})
	if answer, _ := r.exchange("x"); answer != "" {
		t.Errorf("answered %q", answer)
	}
	r.waitFor(fmt.Sprintf("a connection to etcd at %s ended: etcd refuses the client certificate %s", etcd.Endpoint, stranger.Cert))
	r.waitFor("--trusted-ca-file")
}
