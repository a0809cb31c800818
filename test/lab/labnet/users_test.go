//go:build lab

package labnet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func TestEtcdWithTLSHasUsers(t *testing.T) {
	n := newNetwork(t, "10.123.0.0/24")
	certificates, err := NewCertificates(t.TempDir(), n.Gateway())
	if err != nil {
		t.Fatal(err)
	}
	e := n.Etcd(t.TempDir(), EtcdOptions{TLS: true, NoV2: true, Certificates: certificates})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantUsers(t, e)
	if err := e.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatalf("with its existing data: %v", err)
	}
	wantUsers(t, e)
	if keys, err := e.Range(t.Context(), "/calico/"); err != nil || keys != "/calico/a 1\n" {
		t.Errorf("the keys below /calico/ are %q (%v)", keys, err)
	}
	plain := n.Client()
	defer plain.CloseIdleConnections()
	if err := get(t.Context(), plain, "http"+strings.TrimPrefix(e.Endpoint, "https")+"/health"); err == nil {
		t.Error("etcd answers without TLS")
	}
	if err := get(t.Context(), plain, e.Endpoint+"/health"); err == nil {
		t.Error("etcd answers a client without a certificate")
	}
}

func TestEtcdWithoutV2(t *testing.T) {
	n := newNetwork(t, "10.123.0.0/24")
	e := n.Etcd(t.TempDir(), EtcdOptions{NoV2: true})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := n.Client()
	defer client.CloseIdleConnections()
	if err := get(t.Context(), client, e.Endpoint+"/v2/keys/"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("the v2 API: %v, want 404", err)
	}
}

func TestMixedEtcdServesClientsWithAndWithoutTLS(t *testing.T) {
	n := newNetwork(t, "10.123.0.0/24")
	certificates, err := NewCertificates(t.TempDir(), n.Gateway())
	if err != nil {
		t.Fatal(err)
	}
	o := EtcdOptions{Mixed: true, Certificates: certificates}
	e := n.Etcd(t.TempDir(), o)
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	config, err := certificates.client(User)
	if err != nil {
		t.Fatal(err)
	}
	plain, withTLS := n.Client(), n.client(config)
	defer plain.CloseIdleConnections()
	defer withTLS.CloseIdleConnections()
	if err := get(t.Context(), plain, e.Endpoint+"/v2/keys/"); err != nil {
		t.Errorf("the v2 API without TLS: %v", err)
	}
	health := o.TLSEndpoint(n.Gateway()) + "/health"
	if err := get(t.Context(), withTLS, health); err != nil {
		t.Errorf("a client with a certificate: %v", err)
	}
	config.Certificates = nil
	without := n.client(config)
	defer without.CloseIdleConnections()
	if err := get(t.Context(), without, health); err == nil {
		t.Error("etcd answers a client without a certificate")
	}
}

// wantUsers checks that User can write its own prefixes only, and Root all.
func wantUsers(t *testing.T, e *Etcd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for user, keys := range map[string]map[string]error{
		User: {"/calico/a": nil, "/barrel/a": nil, "/firstboot/a": nil, "/other": rpctypes.ErrPermissionDenied, "/calico0": rpctypes.ErrPermissionDenied},
		Root: {"/other": nil},
	} {
		client, err := e.clientOf(user)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for key, want := range keys {
			if _, err := client.Put(ctx, key, "1"); !errors.Is(err, want) {
				t.Errorf("%s writes %s: %v, want %v", user, key, err, want)
			}
		}
	}
}
