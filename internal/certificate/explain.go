package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
)

// Explain classifies the error of a connection to etcd, and adds what a person
// can do about it. Wrong certificates need a person. A certificate that is not
// valid at this time counts as a wrong clock, which is set later.
func (f Files) Explain(err error, now time.Time) error {
	if err == nil || fault.ClassOf(err) != fault.Unclassified {
		return err
	}
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		return fault.WithHint(fault.Permanent, fault.TLS, err, "set etcd.caFile to the CA of etcd's certificate")
	case errors.As(err, &hostname):
		return fault.WithHint(fault.Permanent, fault.TLS, err, "etcd's certificate is for other names: correct etcd.endpoints or the certificate")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fault.WithHint(fault.Transient, fault.Clock, err, clockHint("etcd's certificate"))
	case errors.As(err, &invalid):
		return fault.New(fault.Permanent, fault.TLS, err)
	case errors.As(err, &record):
		return fault.WithHint(fault.Permanent, fault.TLS, err, "etcd does not use TLS on this port: write http:// in etcd.endpoints")
	case isAlert(err):
		return f.explainAlert(err, now)
	case isEnd(err):
		return f.explainEnd(err, now)
	}
	return fault.OfCall(err)
}

// isAlert reports whether the server ended the connection with a TLS alert. With
// TLS 1.3 it checks the client's certificate after the client's handshake, so the
// alert is the error of the first read.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// isEnd reports whether the server ended the connection without a reason. A server
// that refuses a certificate closes the connection while the client may still
// send: the kernel then resets it, and the alert can be lost.
func isEnd(err error) bool {
	for _, end := range []error{syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// explainEnd explains the end of a connection by the client certificate's time, if
// that is wrong.
func (f Files) explainEnd(err error, now time.Time) error {
	if late := f.CheckTime(now); fault.KindOf(late) == fault.Clock {
		return fault.WithHint(fault.Transient, fault.Clock, fmt.Errorf("etcd ended the connection (%w): %w", err, late), fault.Hint(late))
	}
	return fault.OfCall(err)
}

// explainAlert explains that etcd refuses the client certificate.
func (f Files) explainAlert(err error, now time.Time) error {
	if f.Cert == "" {
		return fault.WithHint(fault.Permanent, fault.TLS, fmt.Errorf("etcd requires a client certificate: %w", err), "set etcd.certFile and etcd.keyFile")
	}
	if late := f.CheckTime(now); fault.KindOf(late) == fault.Clock {
		return fault.WithHint(fault.Transient, fault.Clock, fmt.Errorf("etcd refuses the client certificate (%w): %w", err, late), fault.Hint(late))
	}
	return fault.WithHint(fault.Permanent, fault.TLS, fmt.Errorf("etcd refuses the client certificate %s: %w", f.Cert, err),
		"etcd.certFile must be signed by a CA in etcd's --trusted-ca-file; check also the clock of the etcd server")
}
