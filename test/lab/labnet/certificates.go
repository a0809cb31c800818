package labnet

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"

	"github.com/projecteru2/firstboot/test/lab/certs"
)

// Names of etcd's users, which are the CNs of their certificates. User has the
// rights that firstboot, Calico and the plugin need.
const (
	Root = "root"
	User = "firstboot"
)

// server is the CN of etcd's own certificate.
const server = "etcd"

// Certificates is a directory with the certificates of etcd and its users.
type Certificates struct{ Dir string }

// NewCertificates issues the certificates in a directory. Etcd's own is for the
// address.
func NewCertificates(dir string, address netip.Addr) (Certificates, error) {
	c := Certificates{Dir: dir}
	ca, err := certs.NewAuthority(dir)
	if err != nil {
		return c, err
	}
	if _, err := ca.Issue(server, address); err != nil {
		return c, err
	}
	for _, user := range []string{Root, User} {
		if _, err := ca.Issue(user); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Of returns the files of a user.
func (c Certificates) Of(user string) certs.Files { return certs.FilesIn(c.Dir, user) }

// client returns the TLS configuration of a user.
func (c Certificates) client(user string) (*tls.Config, error) {
	files := c.Of(user)
	ca, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("no certificate in %s", files.CA)
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, nil
}
