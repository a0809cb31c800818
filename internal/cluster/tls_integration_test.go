//go:build integration

package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/test/certtest"
	"github.com/projecteru2/firstboot/test/etcdtest"
)

// secure is an etcd with TLS that requires client certificates.
type secure struct {
	*etcdtest.Server
	t  *testing.T
	ca *certtest.CA
}

func startSecure(t *testing.T) *secure {
	t.Helper()
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	server := ca.Issue("server", certtest.Certificate{CN: "server"})
	return &secure{t: t, ca: ca, Server: etcdtest.Start(t, etcdtest.Options{EnableV2: true, TLS: true, Args: []string{
		"--cert-file", server.Cert, "--key-file", server.Key, "--client-cert-auth", "--trusted-ca-file", ca.File,
	}})}
}

// options are those of a client whose certificate has this CN.
func (s *secure) options(cn string) Options {
	pair := s.ca.Issue("client-"+cn, certtest.Certificate{CN: cn})
	return Options{Endpoints: []string{s.Endpoint}, CAFile: s.ca.File, CertFile: pair.Cert, KeyFile: pair.Key, Timeout: 5 * time.Second}
}

func (s *secure) dial(o Options) *Client {
	s.t.Helper()
	c, err := Dial(o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// addUser adds a user without a password and grants its role these rights.
func (s *secure) addUser(name string, rights map[string]clientv3.PermissionType) {
	s.t.Helper()
	c, ctx := s.dial(s.options("root")), testContext(s.t)
	_, err := c.etcd.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
	_, err2 := c.etcd.RoleAdd(ctx, name)
	_, err3 := c.etcd.UserGrantRole(ctx, name, name)
	if err := errors.Join(err, err2, err3); err != nil {
		s.t.Fatal(err)
	}
	for prefix, right := range rights {
		if _, err := c.etcd.RoleGrantPermission(ctx, name, prefix, clientv3.GetPrefixRangeEnd(prefix), right); err != nil {
			s.t.Fatal(err)
		}
	}
}

// enableUsers turns on etcd's users. From then on each client is the user that
// the CN of its certificate names.
func (s *secure) enableUsers() {
	s.t.Helper()
	s.addUser("root", nil)
	if _, err := s.dial(s.options("root")).etcd.AuthEnable(testContext(s.t)); err != nil {
		s.t.Fatal(err)
	}
}

// TestConnectionsWithTLS: what is wrong with the certificates is named and
// classified, by each kind of call.
func TestConnectionsWithTLS(t *testing.T) {
	t.Parallel()
	etcd := startSecure(t)
	stranger := certtest.NewCA(t, t.TempDir(), "stranger")
	change := func(edit func(*Options)) Options {
		o := etcd.options("host1")
		o.Timeout = 3 * time.Second
		edit(&o)
		return o
	}
	pair := func(o *Options, p certtest.Pair) { o.CertFile, o.KeyFile = p.Cert, p.Key }
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for what, c := range map[string]struct {
		options Options
		want    string
		hint    string
		class   fault.Class
		kind    fault.Kind
	}{
		"the right certificate": {options: change(func(*Options) {})},
		"the right user":        {options: change(func(o *Options) { o.Username = "host1" })},
		"no certificate": {change(func(o *Options) { o.CertFile, o.KeyFile = "", "" }),
			"etcd requires a client certificate", "set etcd.certFile", fault.Permanent, fault.TLS},
		"another CA": {change(func(o *Options) { o.CAFile = stranger.File }),
			"signed by unknown authority", "set etcd.caFile", fault.Permanent, fault.TLS},
		"a certificate of another CA": {change(func(o *Options) { pair(o, stranger.Issue("c", certtest.Certificate{CN: "host1"})) }),
			"etcd refuses the client certificate", "--trusted-ca-file", fault.Permanent, fault.TLS},
		"an expired certificate": {change(func(o *Options) {
			pair(o, etcd.ca.Issue("old", certtest.Certificate{NotBefore: past.Add(-time.Hour), NotAfter: past}))
		}),
			"expired on " + past.UTC().Format("2006-01-02"), "check the clock", fault.Transient, fault.Clock},
		"a certificate of tomorrow": {change(func(o *Options) { pair(o, etcd.ca.Issue("new", certtest.Certificate{NotBefore: future})) }),
			"is not valid before " + future.UTC().Format("2006-01-02"), "check the clock", fault.Transient, fault.Clock},
		"another name": {change(func(o *Options) { o.Endpoints = []string{strings.Replace(etcd.Endpoint, "127.0.0.1", "localhost", 1)} }),
			"certificate is not valid for any names", "correct etcd.endpoints", fault.Permanent, fault.TLS},
		"plain http": {change(func(o *Options) { o.Endpoints = []string{strings.Replace(etcd.Endpoint, "https", "http", 1)} }),
			"closes the connection without an answer", "write https:// in etcd.endpoints", fault.Transient, fault.Network},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			client, err := Dial(c.options)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			for call, use := range map[string]func(context.Context) error{
				"Ping": client.Ping, "ServesV2": client.ServesV2,
				"Pools": func(ctx context.Context) error { _, err := client.Pools(ctx); return err },
			} {
				if call == "ServesV2" && c.kind == fault.Network {
					continue // Docker does not use the v2 API of an etcd with TLS
				}
				err := use(testContext(t))
				if c.want == "" && err != nil || c.want != "" && !strings.Contains(fmt.Sprint(err), c.want) {
					t.Errorf("%s = %v, want %q", call, err, c.want)
				}
				if fault.ClassOf(err) != c.class || fault.KindOf(err) != c.kind || !strings.Contains(fault.Hint(err), c.hint) {
					t.Errorf("%s: %v is %v %q (%s), want %v %q (%s)", call, err, fault.ClassOf(err), fault.KindOf(err), fault.Hint(err), c.class, c.kind, c.hint)
				}
			}
		})
	}
}

// TestServerCertificateOfAnotherTimeNamesTheClock: the host's clock is the likely
// cause.
func TestServerCertificateOfAnotherTimeNamesTheClock(t *testing.T) {
	t.Parallel()
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	server := ca.Issue("server", certtest.Certificate{CN: "server", NotBefore: time.Now().Add(time.Hour)})
	etcd := etcdtest.Start(t, etcdtest.Options{TLS: true, Args: []string{"--cert-file", server.Cert, "--key-file", server.Key}})
	c, err := Dial(Options{Endpoints: []string{etcd.Endpoint}, CAFile: ca.File, Timeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Ping(testContext(t))
	if fault.ClassOf(err) != fault.Transient || fault.KindOf(err) != fault.Clock || !strings.Contains(fault.Hint(err), "timedatectl") {
		t.Errorf("Ping = %v, %v %q (%s)", err, fault.ClassOf(err), fault.KindOf(err), fault.Hint(err))
	}
}

// TestRenewedCertificateIsUsedWithTheNextConnection without a new client.
func TestRenewedCertificateIsUsedWithTheNextConnection(t *testing.T) {
	t.Parallel()
	etcd := startSecure(t)
	past := time.Now().Add(-time.Minute)
	old := etcd.ca.Issue("client", certtest.Certificate{CN: "host1", NotBefore: past.Add(-time.Hour), NotAfter: past})
	c := etcd.dial(Options{Endpoints: []string{etcd.Endpoint}, CAFile: etcd.ca.File, CertFile: old.Cert, KeyFile: old.Key, Timeout: 10 * time.Second})
	if err := c.Ping(testContext(t)); fault.KindOf(err) != fault.Clock {
		t.Fatalf("Ping = %v with an expired certificate", err)
	}
	etcd.ca.Issue("client", certtest.Certificate{CN: "host1"})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	ctx := testContext(t)
	for err := c.Ping(ctx); err != nil; err = c.Ping(ctx) {
		select {
		case <-tick.C: // the etcd client pauses between its connections
		case <-ctx.Done():
			t.Fatalf("Ping = %v with the renewed certificate", err)
		}
	}
}

// TestRights: what the user of a certificate lacks, before a stage needs it.
func TestRights(t *testing.T) {
	t.Parallel()
	etcd := startSecure(t)
	const all = clientv3.PermissionType(clientv3.PermReadWrite)
	etcd.addUser("full", map[string]clientv3.PermissionType{"/calico/": all, "/barrel/": all, "/firstboot/": all})
	etcd.addUser("everything", map[string]clientv3.PermissionType{"/": all})
	etcd.addUser("nobarrel", map[string]clientv3.PermissionType{"/calico/": all, "/firstboot/": all})
	etcd.addUser("reader", map[string]clientv3.PermissionType{"/calico/": clientv3.PermissionType(clientv3.PermRead), "/barrel/": all, "/firstboot/": all})
	etcd.addUser("writer", map[string]clientv3.PermissionType{"/calico/": all, "/barrel/": clientv3.PermissionType(clientv3.PermWrite), "/firstboot/": all})
	etcd.addUser("part", map[string]clientv3.PermissionType{"/calico/resources/": all, "/barrel/": all, "/firstboot/": all})
	etcd.addUser("none", nil)
	without, err := etcd.dial(etcd.options("none")).MissingRights(testContext(t))
	if err != nil || len(without) > 0 {
		t.Errorf("an etcd without users denies %v, %v", without, err)
	}
	etcd.enableUsers()
	root := etcd.dial(etcd.options("root"))
	put(t, root, "/calico/a", "1")
	before, err := root.etcd.Get(testContext(t), "/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{
		"root": "[]", "full": "[]", "everything": "[]", "nobarrel": "[read and write on /barrel/]",
		"reader": "[write on /calico/]", "writer": "[read on /barrel/]", "part": "[read and write on /calico/]",
		"none":     "[read and write on /calico/ read and write on /barrel/ read and write on /firstboot/]",
		"stranger": "[read and write on /calico/ read and write on /barrel/ read and write on /firstboot/]",
	} {
		missing, err := etcd.dial(etcd.options(user)).MissingRights(testContext(t))
		if got := fmt.Sprint(missing); err != nil || got != want {
			t.Errorf("%s lacks %s, %v; want %s", user, got, err, want)
		}
	}
	after, err := root.etcd.Get(testContext(t), "/", clientv3.WithPrefix())
	if err != nil || after.Header.Revision != before.Header.Revision || after.Count != before.Count {
		t.Errorf("the queries changed etcd: revision %d, %d keys; before %d, %d; %v",
			after.Header.Revision, after.Count, before.Header.Revision, before.Count, err)
	}
	if err := etcd.dial(etcd.options("full")).Ping(testContext(t)); err != nil {
		t.Errorf("Ping = %v as a user", err)
	}
	_, err = etcd.dial(etcd.options("none")).Pools(testContext(t))
	if !fault.IsPermanent(err) || fault.KindOf(err) != fault.Auth || !strings.Contains(fault.Hint(err), "/calico/, /barrel/, /firstboot/") {
		t.Errorf("Pools = %v, %q (%s) as a user without rights", err, fault.KindOf(err), fault.Hint(err))
	}
}
