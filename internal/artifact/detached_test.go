package artifact

import (
	"bytes"
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// signature is an armored detached one over text.
func signature(t testing.TB, k *openpgp.Entity, text string, config *packet.Config) []byte {
	t.Helper()
	var sig bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&sig, k, strings.NewReader(text), config); err != nil {
		t.Fatal(err)
	}
	return sig.Bytes()
}

func keys(t testing.TB, all ...*openpgp.Entity) []byte {
	t.Helper()
	data, err := os.ReadFile(armored(t, all...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func at(when time.Time) *packet.Config {
	return &packet.Config{Time: func() time.Time { return when }, DefaultHash: crypto.SHA256}
}

// TestVerifyDetached tampers with each part of what is checked.
func TestVerifyDetached(t *testing.T) {
	const text = "pool: {cidr: 10.213.0.0/16}\n"
	site, other := key(t, nil), key(t, nil)
	good := signature(t, site, text, nil)
	if err := VerifyDetachedSignature([]byte(text), good, keys(t, other, site)); err != nil {
		t.Fatal(err)
	}
	revoked := key(t, nil)
	byRevoked := signature(t, revoked, text, nil)
	if err := revoked.RevokeKey(packet.KeySuperseded, "", at(time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	short := at(old)
	short.SigLifetimeSecs = 3600
	early := key(t, func(c *packet.Config) { c.Time = at(old.Add(-time.Hour)).Time })
	block := bytes.Index(good, []byte("\n\n")) + 10
	bent := bytes.Clone(good)
	bent[block] ^= 1
	for _, c := range []struct {
		what      string
		text      string
		sig, keys []byte
		err       string
	}{
		{"another text", text + " ", good, keys(t, site), "it does not hold"},
		{"line ends of another kind", strings.ReplaceAll(text, "\n", "\r\n"), good, keys(t, site), "it does not hold"},
		{"a bent signature", text, bent, keys(t, site), "cannot trust the signature"},
		{"half a signature", text, good[:len(good)/2], keys(t, site), "cannot trust the signature"},
		{"another's signature", text, signature(t, other, text, nil), keys(t, site), "which is not among the public keys"},
		{"no signature", text, nil, keys(t, site), "it is not what gpg --armor --detach-sign writes"},
		{"a page", text, []byte("<html>404</html>"), keys(t, site), "it is not what gpg --armor --detach-sign writes"},
		{"a key for a signature", text, keys(t, site), keys(t, site), "it is not what gpg --armor --detach-sign writes"},
		{"a huge signature", text, append(bytes.Clone(good), make([]byte, MaxDetached)...), keys(t, site), "more than 65536 bytes"},
		{"no key", text, good, nil, "cannot read the public key"},
		{"a signature for a key", text, good, good, "cannot read the public key"},
		{"huge keys", text, good, make([]byte, maxKeyring+1), "more than 1048576 bytes"},
		{"a revoked key", text, byRevoked, keys(t, revoked), "is revoked"},
		{"a signature that ran out", text, signature(t, early, text, short), keys(t, early), "it ran out on"},
	} {
		if err := VerifyDetachedSignature([]byte(c.text), c.sig, c.keys); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.what, err, c.err)
		}
	}
}

// TestVerifyDetachedWithoutAClock: a machine's clock may not be set when it
// fetches its configuration; a key that expired since counts as then.
func TestVerifyDetachedWithoutAClock(t *testing.T) {
	later := time.Now().Add(10 * 365 * 24 * time.Hour)
	future := key(t, func(c *packet.Config) { c.Time = at(later).Time })
	if err := VerifyDetachedSignature([]byte("a"), signature(t, future, "a", at(later.Add(time.Hour))), keys(t, future)); err != nil {
		t.Errorf("ten years behind: %v", err)
	}
	then := time.Now().Add(-72 * time.Hour)
	expired := key(t, func(c *packet.Config) { c.Time, c.KeyLifetimeSecs = at(then).Time, 7200 })
	if err := VerifyDetachedSignature([]byte("a"), signature(t, expired, "a", at(then.Add(time.Hour))), keys(t, expired)); err != nil {
		t.Errorf("expired since: %v", err)
	}
	late := signature(t, expired, "a", at(then.Add(time.Hour)))
	if err := VerifyDetachedSignature([]byte("b"), late, keys(t, expired)); err == nil {
		t.Error("any text is taken")
	}
}

// TestVerifyDetachedByGnuPG takes what the command of the documentation makes.
func TestVerifyDetachedByGnuPG(t *testing.T) {
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("no gpg")
	}
	home, err := os.MkdirTemp("", "gpg") // short: gpg's agent has a socket there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--yes", "--passphrase", "", "--pinentry-mode", "loopback"}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %v: %v", args, err)
		}
		return out
	}
	file := filepath.Join(t.TempDir(), "my.yaml")
	if err := os.WriteFile(file, []byte("a: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gpg("--quick-generate-key", "site@example.org", "rsa2048", "sign", "1y")
	public := gpg("--armor", "--export", "site@example.org")
	gpg("--armor", "--detach-sign", file)
	sig, err := os.ReadFile(file + ".asc")
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyDetachedSignature([]byte("a: 1\n"), sig, public); err != nil {
		t.Error(err)
	}
	if err := VerifyDetachedSignature([]byte("a: 2\n"), sig, public); err == nil {
		t.Error("another text is taken")
	}
	for what, option := range map[string][]string{
		"over a SHA-1 digest": {"--digest-algo", "SHA1"}, "of another kind": {"--textmode"},
	} {
		gpg(append(option, "--armor", "--detach-sign", file)...)
		if sig, err = os.ReadFile(file + ".asc"); err != nil {
			t.Fatal(err)
		}
		if err := VerifyDetachedSignature([]byte("a: 1\n"), sig, public); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("a signature %s: %v", what, err)
		}
	}
}

// FuzzVerifyDetached: no bytes of a server make it panic, nor pass.
func FuzzVerifyDetached(f *testing.F) {
	site := key(f, nil)
	good, public := signature(f, site, "a", nil), keys(f, site)
	f.Add(good)
	f.Add(public)
	f.Add([]byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----"))
	f.Fuzz(func(t *testing.T, sig []byte) {
		if err := VerifyDetachedSignature([]byte("b"), sig, public); err == nil {
			t.Error("it passes")
		}
	})
}
