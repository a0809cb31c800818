package fault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
)

// OfStatus returns the class and kind of an HTTP response with this status. The
// client errors that a server documents as temporary are transient (RFC 9110,
// 6585, 8470); the other client errors are permanent.
func OfStatus(status int) (Class, Kind) {
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return Transient, HTTP4xx
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return Permanent, Auth
	case status >= 500:
		return Transient, HTTP5xx
	}
	return Permanent, HTTP4xx
}

// OfCall classifies the error of a call over a network or a socket that got no
// response. An error that is already classified keeps its class. The rest is
// transient: networks, servers and routes come up later than a host. A
// certificate that is not valid at this time counts as a wrong clock, which is
// set later; other certificate errors need a person.
func OfCall(err error) error {
	if err == nil || ClassOf(err) != Unclassified {
		return err
	}
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		alert    tls.AlertError
		dns      *net.DNSError
		timeout  interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &unknown):
		return WithHint(Permanent, TLS, err, "add the server's CA to the machine's trust store")
	case errors.As(err, &hostname):
		return WithHint(Permanent, TLS, err, "the server's certificate is for another name: correct the url")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return WithHint(Transient, Clock, err, "check the machine's clock and the server's certificate")
	case errors.As(err, &invalid), errors.As(err, &alert):
		return New(Permanent, TLS, err)
	case errors.As(err, &record):
		return WithHint(Permanent, TLS, err, "the server does not use TLS on this port: try http:// in the url")
	case errors.As(err, &dns):
		return WithHint(Transient, DNS, err, "check the host name in the url, and DNS")
	case errors.Is(err, syscall.ECONNREFUSED):
		return New(Transient, Refused, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return New(Transient, Timeout, err)
	}
	return New(Transient, Network, err)
}

// OfFile classifies the error of a file operation. A full or read-only file
// system and a missing permission need a person. Other errors stay as they are.
func OfFile(err error) error {
	if err == nil || ClassOf(err) != Unclassified {
		return err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return WithHint(Permanent, Disk, err, "free disk space; see df -h")
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EIO), errors.Is(err, fs.ErrPermission):
		return New(Permanent, Disk, err)
	}
	return err
}
