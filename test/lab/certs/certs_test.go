package certs

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"testing"
)

func TestIssuedCertificatesAreValidForServersAndClients(t *testing.T) {
	authority, err := NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files, err := authority.Issue("host1", netip.MustParseAddr("10.99.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	if cn := pair.Leaf.Subject.CommonName; cn != "host1" {
		t.Errorf("the CN is %q, want host1", cn)
	}
	ca, err := os.ReadFile(files.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for use, options := range map[string]x509.VerifyOptions{
		"server": {Roots: roots, DNSName: "10.99.0.1"},
		"client": {Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	} {
		if _, err := pair.Leaf.Verify(options); err != nil {
			t.Errorf("as a %s: %v", use, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "10.99.0.2"}); err == nil {
		t.Error("the certificate is valid for another address")
	}
}
