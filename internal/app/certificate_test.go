package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/test/certtest"
)

// TestUserWithoutItsCertificateIsInvalid: exit code 3, on the machine or in the
// root directory that has the certificate.
func TestUserWithoutItsCertificateIsInvalid(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "/etc/firstboot")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const text = "etcd: {endpoints: [https://10.0.0.1:2379], certFile: /etc/firstboot/c.crt, keyFile: /etc/firstboot/c.key, username: host1}\npool: {cidr: 10.213.0.0/16}\n"
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := certtest.NewCA(t, dir, "ca")
	for _, c := range []struct {
		cn   string
		code int
	}{{"", ExitDone}, {"host1", ExitDone}, {"host2", ExitConfig}} {
		if c.cn != "" {
			ca.Issue("c", certtest.Certificate{CN: c.cn})
		}
		_, err := Validate(t.Context(), Options{Root: root})
		if ExitCode(err) != c.code || err != nil && !strings.Contains(err.Error(), `"host1" is not the CN of /etc/firstboot/c.crt, which is "host2"`) {
			t.Errorf("certificate of %q: exit code %d, %v; want %d", c.cn, ExitCode(err), err, c.code)
		}
	}
}
