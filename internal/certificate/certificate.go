// Package certificate reads the files with which a host connects to an etcd with
// TLS, checks them, and explains why a handshake failed. It knows nothing about
// etcd's API and makes no connections.
package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/text"
)

// maxFile limits a PEM file, in bytes. A bundle of the system's CAs has about
// 220 kB.
const maxFile = 1 << 20

// Files are the paths of the files, in PEM. Their names in messages are those of
// the configuration's keys.
type Files struct {
	CA   string // certificates of CAs; empty: the system's
	Cert string // the client certificate and its intermediates; empty: none is presented
	Key  string // the key of Cert
}

// Config reads the files. The configuration that it returns reads Cert and Key
// again for each handshake, so a renewed certificate takes effect with the next
// connection.
func (f Files) Config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		data, err := read("etcd.caFile", f.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, configError(fmt.Errorf("cannot use etcd.caFile %s: it contains no certificate", f.CA), "the file must be PEM")
		}
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, configError(errors.New("cannot use a client certificate for etcd without its key"), "set both etcd.certFile and etcd.keyFile")
	}
	if f.Cert == "" {
		return config, nil
	}
	if _, err := f.pair(); err != nil {
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.pair() }
	return config, nil
}

// pair reads the client certificate and its key.
func (f Files) pair() (*tls.Certificate, error) {
	cert, err := read("etcd.certFile", f.Cert)
	if err != nil {
		return nil, err
	}
	key, err := read("etcd.keyFile", f.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, configError(fmt.Errorf("cannot use etcd.certFile %s with etcd.keyFile %s: %w", f.Cert, f.Key, err),
			"check that they belong together and that both are PEM")
	}
	return &pair, nil
}

// CommonName returns the CN of the first certificate in a file.
func CommonName(path string) (string, error) {
	certs, err := parse("etcd.certFile", path)
	if err != nil {
		return "", err
	}
	return certs[0].Subject.CommonName, nil
}

// Names returns the names and addresses in the first certificate of PEM data: its CN
// and its SANs. Data that is not a certificate has none.
func Names(data []byte) []string {
	certs, err := decode(data)
	if err != nil || len(certs) == 0 {
		return nil
	}
	names := append([]string{certs[0].Subject.CommonName}, certs[0].DNSNames...)
	for _, ip := range certs[0].IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// CheckUser returns an error unless the client certificate has this CN, which is
// the user of an etcd with users.
func (f Files) CheckUser(name string) error {
	const hint = "etcd's user is the CN of the client certificate: correct etcd.username or etcd.certFile"
	if f.Cert == "" {
		return configError(fmt.Errorf("cannot be the etcd user %q without etcd.certFile", text.Line(name)), hint)
	}
	cn, err := CommonName(f.Cert)
	if err == nil && cn != name {
		return configError(fmt.Errorf("cannot be the etcd user %q: etcd.certFile %s has the CN %q", text.Line(name), f.Cert, text.Line(cn)), hint)
	}
	return err
}

// ExpiryWarning is how long before its end a certificate causes a warning.
const ExpiryWarning = 30 * 24 * time.Hour

// Warnings returns what is wrong with the files without preventing connections
// at this time: a certificate that expires soon, a key that others can read. A
// file that cannot be used causes no warning; Config returns the error.
func (f Files) Warnings(now time.Time) []string {
	var all []string
	for _, file := range []struct{ key, path string }{{"etcd.certFile", f.Cert}, {"etcd.caFile", f.CA}} {
		if file.path == "" {
			continue
		}
		certs, err := parse(file.key, file.path)
		if err != nil {
			continue
		}
		end := firstEnd(certs)
		if left := end.Sub(now); left > 0 && left <= ExpiryWarning {
			all = append(all, fmt.Sprintf("%s %s expires on %s, in %s: renew it", file.key, file.path, date(end), days(left)))
		}
	}
	if info, err := os.Stat(f.Key); f.Key != "" && err == nil && info.Mode().Perm()&othersUse != 0 {
		all = append(all, fmt.Sprintf("etcd.keyFile %s can be used by other users (mode %04o): chmod 600 %s", f.Key, info.Mode().Perm(), f.Key))
	}
	return all
}

// othersUse are the permissions that a key should not have. A group may read
// it: Debian's ssl-cert does.
const othersUse fs.FileMode = 0o027

// CheckTime returns an error of kind fault.Clock if the client certificate is not
// valid at this time. The error is transient: the clock is set later, or the
// certificate is renewed in place.
func (f Files) CheckTime(now time.Time) error {
	if f.Cert == "" {
		return nil
	}
	certs, err := parse("etcd.certFile", f.Cert)
	if err != nil {
		return err
	}
	what := ""
	for _, c := range certs {
		switch {
		case now.Before(c.NotBefore):
			what = "is not valid before " + date(c.NotBefore)
		case now.After(c.NotAfter):
			what = "expired on " + date(c.NotAfter)
		}
	}
	if what == "" {
		return nil
	}
	return fault.WithHint(fault.Transient, fault.Clock,
		fmt.Errorf("etcd.certFile %s %s, and the clock of this host is at %s", f.Cert, what, date(now)), clockHint("the certificate"))
}

// clockHint is what a person can do about a certificate that is not valid now.
func clockHint(whose string) string {
	return "check the clock (timedatectl); if it is right, renew " + whose
}

func firstEnd(certs []*x509.Certificate) time.Time {
	end := certs[0].NotAfter
	for _, c := range certs[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func days(d time.Duration) string {
	if n := int(d / (24 * time.Hour)); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "1 day"
}

// parse returns the certificates in a file, at least one.
func parse(key, path string) ([]*x509.Certificate, error) {
	data, err := read(key, path)
	if err != nil {
		return nil, err
	}
	certs, err := decode(data)
	if err != nil {
		return nil, configError(fmt.Errorf("cannot use %s %s: %w", key, path, err), "")
	}
	if len(certs) == 0 {
		return nil, configError(fmt.Errorf("cannot use %s %s: it contains no certificate", key, path), "the file must be PEM")
	}
	return certs, nil
}

// decode returns the certificates in PEM data.
func decode(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// read reads a regular file. Opening a FIFO does not wait.
func read(key, path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, configError(fmt.Errorf("cannot read %s: %w", key, err), "")
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, configError(fmt.Errorf("cannot read %s %s: %w", key, path, err), "")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	if err != nil {
		return nil, configError(fmt.Errorf("cannot read %s %s: %w", key, path, err), "")
	}
	return data, nil
}

// configError is an error that a person must fix in the configuration or in a
// file that it names.
func configError(err error, advice string) error {
	return fault.WithHint(fault.Permanent, fault.Config, err, advice)
}
