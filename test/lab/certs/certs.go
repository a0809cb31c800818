// Package certs issues the certificates of a lab's etcd and of its clients.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const (
	// validity is how long before and after now a certificate is valid. Images
	// in the lab's cache contain certificates.
	validity = 10 * 365 * 24 * time.Hour

	authorityName = "lab-ca"
)

// Files are the paths of PEM files.
type Files struct{ CA, Cert, Key string }

// FilesIn returns the paths of a certificate that Issue wrote to the directory of
// an authority.
func FilesIn(dir, name string) Files {
	return Files{CA: file(dir, authorityName, "crt"), Cert: file(dir, name, "crt"), Key: file(dir, name, "key")}
}

// Authority is a certificate authority whose files are in one directory.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority creates an authority, and the directory.
func NewAuthority(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create the authority: %w", err)
	}
	a := &Authority{dir: dir}
	template := template(authorityName)
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	var err error
	if a.cert, a.key, err = a.issue(template); err != nil {
		return nil, fmt.Errorf("cannot create the authority: %w", err)
	}
	return a, nil
}

// Issue issues a certificate for a server with these addresses and for a client.
// Its CN and the names of its files are name.
func (a *Authority) Issue(name string, addresses ...netip.Addr) (Files, error) {
	template := template(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(address.AsSlice()))
	}
	if _, _, err := a.issue(template); err != nil {
		return Files{}, fmt.Errorf("cannot issue a certificate for %s: %w", name, err)
	}
	return FilesIn(a.dir, name), nil
}

func file(dir, name, suffix string) string { return filepath.Join(dir, name+"."+suffix) }

func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-validity), NotAfter: now.Add(validity), BasicConstraintsValid: true,
	}
}

// issue signs the template, with its own key if the authority has none yet, and
// writes both files.
func (a *Authority) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	name := template.Subject.CommonName
	return cert, key, errors.Join(
		write(file(a.dir, name, "crt"), 0o644, "CERTIFICATE", der),
		write(file(a.dir, name, "key"), 0o600, "EC PRIVATE KEY", keyDER),
	)
}

func write(path string, perm os.FileMode, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), perm)
}
