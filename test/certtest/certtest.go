// Package certtest makes certificates for a test: authorities, and certificates
// for servers and clients that they sign.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is a certificate authority.
type CA struct {
	File string // its certificate

	tb   testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Certificate describes a certificate. The zero value of a field has the
// default.
type Certificate struct {
	CN        string
	NotBefore time.Time   // an hour ago
	NotAfter  time.Time   // in a year
	IPs       []net.IP    // 127.0.0.1
	Names     []string    // DNS names
	Mode      os.FileMode // of the key's file; 0600
}

// Pair is a certificate and its key, as files.
type Pair struct{ Cert, Key string }

// NewCA makes an authority. Its files are in dir.
func NewCA(tb testing.TB, dir, name string) *CA {
	tb.Helper()
	ca := &CA{tb: tb, dir: dir, File: filepath.Join(dir, name+".crt")}
	template := ca.template(Certificate{CN: name})
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	ca.cert, ca.key = ca.sign(template, nil)
	ca.write(ca.File, 0o644, "CERTIFICATE", ca.cert.Raw)
	return ca
}

// Issue signs a certificate, and writes NAME.crt and NAME.key. It replaces files
// of that name as a renewal does.
func (ca *CA) Issue(name string, c Certificate) Pair {
	ca.tb.Helper()
	if c.Mode == 0 {
		c.Mode = 0o600
	}
	cert, key := ca.sign(ca.template(c), ca)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		ca.tb.Fatal(err)
	}
	pair := Pair{filepath.Join(ca.dir, name+".crt"), filepath.Join(ca.dir, name+".key")}
	ca.write(pair.Cert, 0o644, "CERTIFICATE", cert.Raw)
	ca.write(pair.Key, c.Mode, "EC PRIVATE KEY", der)
	return pair
}

func (ca *CA) template(c Certificate) *x509.Certificate {
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	if c.IPs == nil && c.Names == nil {
		c.IPs = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		ca.tb.Fatal(err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: c.CN},
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, IPAddresses: c.IPs, DNSNames: c.Names,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// sign makes a key and its certificate. Without a parent the certificate signs
// itself.
func (ca *CA) sign(template *x509.Certificate, parent *CA) (*x509.Certificate, *ecdsa.PrivateKey) {
	ca.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.tb.Fatal(err)
	}
	issuer, issuerKey := template, key
	if parent != nil {
		issuer, issuerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		ca.tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.tb.Fatal(err)
	}
	return cert, key
}

// write replaces a file.
func (ca *CA) write(path string, mode os.FileMode, kind string, der []byte) {
	ca.tb.Helper()
	next := path + ".new"
	err := os.WriteFile(next, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
	if err == nil {
		err = os.Chmod(next, mode)
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		ca.tb.Fatal(err)
	}
}
