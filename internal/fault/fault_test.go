package fault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestClassOfAChainIsTheOutermostOne(t *testing.T) {
	refused := New(Transient, Refused, errors.New("refused"))
	for name, c := range map[string]struct {
		err   error
		class Class
		kind  Kind
	}{
		"nothing":                    {nil, Unclassified, Unknown},
		"an unclassified error":      {errors.New("no"), Unclassified, Unknown},
		"a wrapped error":            {fmt.Errorf("cannot reach x: %w", refused), Transient, Refused},
		"a class for the purpose":    {New(Permanent, Config, refused), Permanent, Config},
		"a class without a kind":     {New(Retryable, Unknown, refused), Retryable, Refused},
		"joined with the worst last": {errors.Join(refused, errors.New("no"), New(Permanent, Disk, errors.New("full"))), Permanent, Disk},
		"joined with the worst first": {
			fmt.Errorf("%w and %w", New(Retryable, Lock, errors.New("held")), refused), Retryable, Lock,
		},
		"an error without a cause": {&Error{Class: Transient}, Transient, Unknown},
	} {
		if ClassOf(c.err) != c.class || KindOf(c.err) != c.kind {
			t.Errorf("%s: %v %q, want %v %q", name, ClassOf(c.err), KindOf(c.err), c.class, c.kind)
		}
	}
}

func TestNilIsNotAnError(t *testing.T) {
	if New(Permanent, Disk, nil) != nil || OfCall(nil) != nil || OfFile(nil) != nil {
		t.Error("a nil error became an error")
	}
}

func TestHintIsTheFirstOfTheTree(t *testing.T) {
	inner := WithHint(Permanent, Config, errors.New("no"), "correct it")
	for _, err := range []error{
		inner, fmt.Errorf("cannot do it: %w", inner), New(Permanent, Disk, inner), errors.Join(errors.New("other"), inner),
	} {
		if Hint(err) != "correct it" {
			t.Errorf("the hint of %v is %q", err, Hint(err))
		}
	}
	if Hint(errors.New("no")) != "" || Hint(nil) != "" {
		t.Error("an error without a hint has one")
	}
}

func TestStatusOfAResponseIsClassified(t *testing.T) {
	for status, want := range map[int]Class{
		400: Permanent, 401: Permanent, 403: Permanent, 404: Permanent, 407: Permanent, 410: Permanent,
		408: Transient, 425: Transient, 429: Transient, 500: Transient, 502: Transient, 503: Transient, 504: Transient,
	} {
		if class, kind := OfStatus(status); class != want || kind == Unknown {
			t.Errorf("%d: %v %q, want %v", status, class, kind, want)
		}
	}
}

func TestFailedCallIsClassified(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		class Class
		kind  Kind
	}{
		"unknown host":          {&net.DNSError{IsNotFound: true, Name: "x"}, Transient, DNS},
		"refused":               {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, Transient, Refused},
		"reset":                 {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, Transient, Network},
		"deadline":              {fmt.Errorf("get: %w", context.DeadlineExceeded), Transient, Timeout},
		"socket without a file": {&net.OpError{Op: "dial", Err: fs.ErrNotExist}, Transient, Network},
		"unknown CA":            {x509.UnknownAuthorityError{}, Permanent, TLS},
		"other name":            {x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}, Permanent, TLS},
		"certificate from 2050": {x509.CertificateInvalidError{Reason: x509.Expired}, Transient, Clock},
		"certificate of a host": {x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, Permanent, TLS},
		"classified before":     {New(Permanent, Config, context.DeadlineExceeded), Permanent, Config},
	} {
		if err := OfCall(c.err); ClassOf(err) != c.class || KindOf(err) != c.kind || !errors.Is(err, c.err) {
			t.Errorf("%s: %v %q, want %v %q", name, ClassOf(err), KindOf(err), c.class, c.kind)
		}
	}
}

func TestFailedFileOperationIsClassified(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}
	if err := OfFile(full); ClassOf(err) != Permanent || KindOf(err) != Disk || Hint(err) == "" {
		t.Errorf("a full disk is %v %q", ClassOf(err), KindOf(err))
	}
	if err := OfFile(fs.ErrNotExist); ClassOf(err) != Unclassified {
		t.Errorf("a missing file is %v", ClassOf(err))
	}
}

func TestWaitNamesItsSubject(t *testing.T) {
	named := fmt.Errorf("no: %w", &Error{Class: Transient, Kind: Refused, Subject: "the registry quay.io", After: time.Minute, Err: errors.New("refused")})
	if WaitsFor(named) != "the registry quay.io" || RetryAfter(named) != time.Minute {
		t.Errorf("waits for %q, %v", WaitsFor(named), RetryAfter(named))
	}
	if got := WaitsFor(New(Transient, Clock, errors.New("1970"))); got != "the clock to be set" {
		t.Errorf("waits for %q", got)
	}
	if got := WaitsFor(New(Transient, Clock, named)); got != "the registry quay.io" {
		t.Errorf("waits for %q", got)
	}
}
