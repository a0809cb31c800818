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

	"github.com/projecteru2/firstboot/test/program"
)

// signature makes an armored detached signature over text.
func signature(t testing.TB, k *openpgp.Entity, text string, config *packet.Config) []byte {
	t.Helper()
	var sig bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&sig, k, strings.NewReader(text), config); err != nil {
		t.Fatal(err)
	}
	return sig.Bytes()
}

// keys returns armored public keys.
func keys(t testing.TB, all ...*openpgp.Entity) []byte {
	t.Helper()
	data, err := os.ReadFile(armored(t, all...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// at is a configuration with a fixed clock.
func at(when time.Time) *packet.Config {
	return &packet.Config{Time: func() time.Time { return when }, DefaultHash: crypto.SHA256}
}

func TestVerifyDetachedSignature(t *testing.T) {
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
	changed := bytes.Clone(good)
	changed[block] ^= 1
	for _, c := range []struct {
		what      string
		text      string
		sig, keys []byte
		err       string
	}{
		{"another text", text + " ", good, keys(t, site), "it does not match the content"},
		{"other line ends", strings.ReplaceAll(text, "\n", "\r\n"), good, keys(t, site), "it does not match the content"},
		{"a changed signature", text, changed, keys(t, site), "cannot trust the signature"},
		{"half a signature", text, good[:len(good)/2], keys(t, site), "cannot trust the signature"},
		{"a signature by another key", text, signature(t, other, text, nil), keys(t, site), "which is not among the public keys"},
		{"no signature", text, nil, keys(t, site), "it is not an armored signature"},
		{"an HTML page", text, []byte("<html>404</html>"), keys(t, site), "it is not an armored signature"},
		{"a key as signature", text, keys(t, site), keys(t, site), "it is not an armored signature"},
		{"a huge signature", text, append(bytes.Clone(good), make([]byte, maxDetachedSignature)...), keys(t, site), "more than 65536 bytes"},
		{"no key", text, good, nil, "cannot read the public key"},
		{"a signature as key", text, good, good, "cannot read the public key"},
		{"huge keys", text, good, make([]byte, maxKeyring+1), "more than 1000000 bytes"},
		{"a revoked key", text, byRevoked, keys(t, revoked), "is revoked"},
		{"an expired signature", text, signature(t, early, text, short), keys(t, early), "it expired on"},
	} {
		if err := VerifyDetachedSignature([]byte(c.text), c.sig, c.keys); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.what, err, c.err)
		}
	}
}

// The clock may not be set yet when a machine fetches its configuration, and a
// key may have expired since it signed.
func TestVerifyDetachedSignatureWithWrongClock(t *testing.T) {
	later := time.Now().Add(10 * 365 * 24 * time.Hour)
	future := key(t, func(c *packet.Config) { c.Time = at(later).Time })
	if err := VerifyDetachedSignature([]byte("a"), signature(t, future, "a", at(later.Add(time.Hour))), keys(t, future)); err != nil {
		t.Errorf("a clock that is ten years slow: %v", err)
	}
	then := time.Now().Add(-72 * time.Hour)
	expired := key(t, func(c *packet.Config) { c.Time, c.KeyLifetimeSecs = at(then).Time, 7200 })
	if err := VerifyDetachedSignature([]byte("a"), signature(t, expired, "a", at(then.Add(time.Hour))), keys(t, expired)); err != nil {
		t.Errorf("a key that has expired since: %v", err)
	}
	sig := signature(t, expired, "a", at(then.Add(time.Hour)))
	if err := VerifyDetachedSignature([]byte("b"), sig, keys(t, expired)); err == nil {
		t.Error("another text is accepted")
	}
}

// TestVerifyDetachedSignatureByGnuPG verifies signatures made with the
// documented command.
func TestVerifyDetachedSignatureByGnuPG(t *testing.T) {
	program.Need(t, "gpg")
	home, err := os.MkdirTemp("", "gpg") // gpg-agent's socket needs a short path
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
		t.Error("another text is accepted")
	}
	for what, option := range map[string][]string{
		"uses a SHA-1 digest": {"--digest-algo", "SHA1"}, "not a signature over a binary file": {"--textmode"},
	} {
		gpg(append(option, "--armor", "--detach-sign", file)...)
		if sig, err = os.ReadFile(file + ".asc"); err != nil {
			t.Fatal(err)
		}
		if err := VerifyDetachedSignature([]byte("a: 1\n"), sig, public); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
}

// No input makes VerifyDetachedSignature panic or accept another text.
func FuzzVerifyDetachedSignature(f *testing.F) {
	// An RSA key takes most of the time: each worker makes its own.
	site := key(f, func(c *packet.Config) { c.Algorithm = packet.PubKeyAlgoEdDSA })
	good, public := signature(f, site, "a", nil), keys(f, site)
	f.Add(good)
	f.Add(public)
	f.Add([]byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----"))
	f.Fuzz(func(t *testing.T, sig []byte) {
		if len(sig) > maxFuzzed {
			return
		}
		if err := VerifyDetachedSignature([]byte("b"), sig, public); err == nil {
			t.Error("another text is accepted")
		}
	})
}
