package certificate

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/test/certtest"
)

func TestUnusableFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	ca := certtest.NewCA(t, dir, "ca")
	one, other := ca.Issue("one", certtest.Certificate{CN: "host1"}), ca.Issue("other", certtest.Certificate{CN: "host2"})
	file := func(name, data string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	empty, large := file("empty", ""), file("large", strings.Repeat("x", maxFile+1))
	damaged := file("damaged", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		files Files
		want  string
	}{
		"a missing CA":               {Files{CA: dir + "/none"}, "cannot read etcd.caFile: open " + dir + "/none: no such file"},
		"a CA without a certificate": {Files{CA: empty}, "etcd.caFile " + empty + ": it contains no certificate"},
		"a damaged CA":               {Files{CA: damaged}, "etcd.caFile " + damaged + ": it contains no certificate"},
		"a directory":                {Files{CA: dir}, "etcd.caFile " + dir + ": not a regular file"},
		"a FIFO":                     {Files{CA: fifo}, "etcd.caFile " + fifo + ": not a regular file"},
		"a large file":               {Files{CA: large}, "larger than 1048576 bytes"},
		"a certificate without key":  {Files{Cert: one.Cert}, "without its key"},
		"a missing certificate":      {Files{Cert: dir + "/none", Key: one.Key}, "cannot read etcd.certFile"},
		"a missing key":              {Files{Cert: one.Cert, Key: dir + "/none"}, "cannot read etcd.keyFile"},
		"another key":                {Files{Cert: one.Cert, Key: other.Key}, "private key does not match"},
	} {
		_, err := c.files.Config()
		if err == nil || !strings.Contains(err.Error(), c.want) || !fault.IsPermanent(err) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	if _, err := (Files{CA: ca.File, Cert: one.Cert, Key: one.Key}).Config(); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{damaged: "x509: malformed", empty: "contains no certificate", one.Key: "contains no certificate"} {
		if _, err := CommonName(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CommonName(%s) = %v, want %q", path, err, want)
		}
	}
}

func TestUserIsTheCommonName(t *testing.T) {
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	pair := ca.Issue("c", certtest.Certificate{CN: "host1"})
	for name, want := range map[string]string{"host1": "", "host2": `has the CN "host1"`} {
		err := Files{Cert: pair.Cert, Key: pair.Key}.CheckUser(name)
		if (err == nil) != (want == "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if err := (Files{}).CheckUser("host1"); err == nil || !strings.Contains(err.Error(), "without etcd.certFile") {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestWarningsNameTheFileAndTheDate(t *testing.T) {
	dir := t.TempDir()
	ca := certtest.NewCA(t, dir, "ca") // valid for a year
	now := time.Now()
	day := 24 * time.Hour
	for what, c := range map[string]struct {
		certificate certtest.Certificate
		at          time.Time
		want        []string
	}{
		"valid for long":       {certtest.Certificate{}, now, nil},
		"31 days left":         {certtest.Certificate{NotAfter: now.Add(31 * day)}, now, nil},
		"29 days left":         {certtest.Certificate{NotAfter: now.Add(29*day + time.Hour)}, now, []string{"etcd.certFile " + dir + "/c.crt expires on " + date(now.Add(29*day+time.Hour)) + ", in 29 days"}},
		"one day left":         {certtest.Certificate{NotAfter: now.Add(day + time.Hour)}, now, []string{"in 1 day: renew it"}},
		"expired":              {certtest.Certificate{NotAfter: now.Add(-time.Minute)}, now, nil}, // CheckTime reports it
		"a key that all read":  {certtest.Certificate{Mode: 0o644}, now, []string{"etcd.keyFile " + dir + "/c.key can be used by other users (mode 0644): chmod 600"}},
		"a key for a group":    {certtest.Certificate{Mode: 0o640}, now, nil},
		"a CA that ends first": {certtest.Certificate{NotAfter: now.AddDate(3, 0, 0)}, now.AddDate(0, 11, 20), []string{"etcd.caFile " + ca.File + " expires on"}},
	} {
		pair := ca.Issue("c", c.certificate)
		got := Files{CA: ca.File, Cert: pair.Cert, Key: pair.Key}.Warnings(c.at)
		if len(got) != len(c.want) || len(got) == 1 && !strings.Contains(got[0], c.want[0]) {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
	if got := (Files{CA: dir + "/none", Cert: dir + "/none", Key: dir + "/none"}).Warnings(now); len(got) > 0 {
		t.Errorf("missing files: %q", got)
	}
}

func TestCertificateOfAnotherTimeNamesTheClock(t *testing.T) {
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	pair := ca.Issue("c", certtest.Certificate{NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0)})
	f := Files{Cert: pair.Cert, Key: pair.Key}
	for at, want := range map[int64]string{
		1.5e9: "", 0: "is not valid before 2001-09-09 01:46 UTC, and the clock of this host is at 1970-01-01 00:00 UTC", 2.1e9: "expired on 2033-05-18 03:33 UTC",
	} {
		err := f.CheckTime(time.Unix(at, 0))
		if (err == nil) != (want == "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("at %d: %v, want %q", at, err, want)
		}
		if err != nil && (fault.ClassOf(err) != fault.Transient || fault.KindOf(err) != fault.Clock || !strings.Contains(fault.Hint(err), "timedatectl")) {
			t.Errorf("%v is %v %q (%s)", err, fault.ClassOf(err), fault.KindOf(err), fault.Hint(err))
		}
	}
}

// TestEachHandshakeReadsTheCertificate, so that a renewal needs no restart.
func TestEachHandshakeReadsTheCertificate(t *testing.T) {
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	pair := ca.Issue("c", certtest.Certificate{CN: "old"})
	config, err := Files{Cert: pair.Cert, Key: pair.Key}.Config()
	if err != nil {
		t.Fatal(err)
	}
	ca.Issue("c", certtest.Certificate{CN: "new"})
	got, err := config.GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil || got.Leaf.Subject.CommonName != "new" {
		t.Errorf("%v, %v", got, err)
	}
	if err := os.Remove(pair.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := config.GetClientCertificate(&tls.CertificateRequestInfo{}); err == nil {
		t.Error("a removed key is used")
	}
}

// TestEndOfAConnectionNamesTheClock if the certificate is not valid at this time:
// etcd's alert can be lost.
func TestEndOfAConnectionNamesTheClock(t *testing.T) {
	ca := certtest.NewCA(t, t.TempDir(), "ca")
	pair := ca.Issue("c", certtest.Certificate{NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0)})
	f := Files{Cert: pair.Cert, Key: pair.Key}
	for _, end := range []error{syscall.EPIPE, syscall.ECONNRESET, io.EOF, io.ErrUnexpectedEOF} {
		late := f.Explain(&net.OpError{Op: "write", Err: end}, time.Unix(2.1e9, 0))
		if fault.KindOf(late) != fault.Clock || !strings.Contains(late.Error(), "expired on 2033-05-18") || !errors.Is(late, end) || fault.Hint(late) == "" {
			t.Errorf("%v: %v, %q", end, late, fault.KindOf(late))
		}
		valid := f.Explain(&net.OpError{Op: "write", Err: end}, time.Unix(1.5e9, 0))
		if fault.KindOf(valid) != fault.Network || fault.ClassOf(valid) != fault.Transient {
			t.Errorf("%v: %v, %q", end, valid, fault.KindOf(valid))
		}
	}
}

func TestOtherErrorsOfAConnectionKeepTheirClass(t *testing.T) {
	known := fault.New(fault.Permanent, fault.Config, io.EOF)
	if err := (Files{}).Explain(known, time.Now()); err != known {
		t.Errorf("%v", err)
	}
	if err := (Files{}).Explain(syscall.ECONNREFUSED, time.Now()); fault.KindOf(err) != fault.Refused || fault.ClassOf(err) != fault.Transient {
		t.Errorf("%v %q", err, fault.KindOf(err))
	}
	if err := (Files{}).Explain(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, time.Now()); fault.KindOf(err) != fault.TLS || !strings.Contains(fault.Hint(err), "http://") {
		t.Errorf("%v %q", err, fault.KindOf(err))
	}
	if (Files{}).Explain(nil, time.Now()) != nil {
		t.Error("nil became an error")
	}
}
