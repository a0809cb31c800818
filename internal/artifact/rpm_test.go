package artifact

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-cmp/cmp"
	"github.com/google/rpmpack"

	"github.com/projecteru2/firstboot/internal/fault"
)

// key makes an OpenPGP key; change may modify its configuration.
func key(t testing.TB, change func(*packet.Config)) *openpgp.Entity {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048}
	if change != nil {
		change(config)
	}
	e, err := openpgp.NewEntity("packager", "", "packager@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// armored writes armored public keys into a file.
func armored(t testing.TB, keys ...*openpgp.Entity) string {
	t.Helper()
	var data bytes.Buffer
	w, err := armor.Encode(&data, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := k.Serialize(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(path, data.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// signer makes detached signatures, as rpmsign does.
func signer(k *openpgp.Entity, config *packet.Config) func([]byte) ([]byte, error) {
	return func(data []byte) ([]byte, error) {
		var sig bytes.Buffer
		err := openpgp.DetachSign(&sig, k, bytes.NewReader(data), config)
		return sig.Bytes(), err
	}
}

// pack makes an RPM with google/rpmpack.
func pack(t testing.TB, sign func([]byte) ([]byte, error)) []byte {
	t.Helper()
	r, err := rpmpack.NewRPM(rpmpack.RPMMetaData{
		Name: "eru-minions", Version: "1.2.3", Release: "4.el9", Arch: "x86_64", OS: "linux", Epoch: 2, Compressor: "gzip",
	})
	if err != nil {
		t.Fatal(err)
	}
	r.AddPostin("systemctl daemon-reload")
	r.AddFile(rpmpack.RPMFile{Name: "/usr/bin/eru-minions", Body: []byte("#!/bin/sh\n"), Mode: 0o755, Owner: "root", Group: "root"})
	if sign != nil {
		r.SetPGPSigner(sign)
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestReadPackage(t *testing.T) {
	path := file(t, pack(t, nil))
	got, err := ReadPackage(path)
	want := Package{Name: "eru-minions", Version: "1.2.3", Release: "4.el9", Arch: "x86_64", Epoch: 2, Scriptlets: []string{"post"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got.String() != "eru-minions-2:1.2.3-4.el9.x86_64" {
		t.Errorf("String = %s", got)
	}
	signed, err := ReadPackage(file(t, pack(t, signer(key(t, nil), nil))))
	if err != nil || !signed.Signed {
		t.Errorf("a signed package: %+v, %v", signed, err)
	}
}

func TestReadPackageRejectsOtherFiles(t *testing.T) {
	good := pack(t, nil)
	for what, data := range map[string][]byte{
		"empty": nil, "an HTML page": []byte("<html>"), "only the lead": good[:96], "a truncated header": good[:300],
		"wrong magic": append(bytes.Clone(good[:96]), bytes.Repeat([]byte{1}, 400)...),
	} {
		if p, err := ReadPackage(file(t, data)); err == nil {
			t.Errorf("%s: read as %v", what, p)
		}
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		if p, err := ReadPackage(path); err == nil {
			t.Errorf("%s: read as %v", path, p)
		}
	}
}

// header makes an RPM header with entries of {tag, type, offset, count}.
func header(size uint32, store []byte, entries ...[4]uint32) []byte {
	out := []byte{0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0}
	out = binary.BigEndian.AppendUint32(out, uint32(len(entries)))
	out = binary.BigEndian.AppendUint32(out, size)
	for _, e := range entries {
		for _, field := range e {
			out = binary.BigEndian.AppendUint32(out, field)
		}
	}
	return append(out, store...)
}

func rpmLead() []byte {
	lead := make([]byte, 96)
	copy(lead, []byte{0xed, 0xab, 0xee, 0xdb, 3, 0})
	return lead
}

// These files made the libraries panic or allocate hundreds of megabytes.
func TestCraftedPackagesAreRejectedWithLittleMemory(t *testing.T) {
	empty := header(0, nil)
	big := make([]byte, 1<<20)
	many := make([][4]uint32, 200)
	for i := range many {
		many[i] = [4]uint32{uint32(1000 + i), 4, 0, 1 << 18}
	}
	for what, body := range map[string][]byte{
		// 136 bytes in all: an unterminated string at the last byte of a store.
		"an unterminated string":          append(header(8, []byte("abcdefgh"), [4]uint32{1000, 6, 7, 1}), empty...)[:40],
		"a count of billions":             append(header(8, make([]byte, 8), [4]uint32{1000, 4, 0, 0x06000000}), empty...),
		"a negative count":                append(header(8, make([]byte, 8), [4]uint32{1000, 7, 0, 0xffffffff}), empty...),
		"an offset out of range":          append(header(8, make([]byte, 8), [4]uint32{1000, 4, 9, 1}), empty...),
		"a negative offset":               append(header(8, make([]byte, 8), [4]uint32{1000, 4, 0xfffffff8, 1}), empty...),
		"a huge store":                    header(0xffffffff, nil),
		"a store of 32 MiB":               header(32<<20, nil),
		"a huge index":                    {0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0, 0x10, 0, 0, 1, 0, 0, 0, 0},
		"an unknown type":                 append(header(8, make([]byte, 8), [4]uint32{1000, 77, 0, 1}), empty...),
		"a count of zero":                 append(header(8, make([]byte, 8), [4]uint32{1000, 4, 0, 0}), empty...),
		"overlapping entries":             append(header(1<<20, big, many...), empty...),
		"no tags":                         append(bytes.Clone(empty), empty...),
		"a name of the wrong type":        append(bytes.Clone(empty), header(8, make([]byte, 8), [4]uint32{1000, 4, 0, 1})...),
		"a name with a control character": append(bytes.Clone(empty), header(8, []byte("\x1b[2Jabc\x00"), [4]uint32{1000, 6, 0, 1})...),
		"a name that is a path":           append(bytes.Clone(empty), header(8, []byte("../../x\x00"), [4]uint32{1000, 6, 0, 1})...),
		"the same string many times":      append(header(8, []byte("abcdefg\x00"), repeat([4]uint32{1000, 6, 0, 1}, 60_000)...), empty...),
		"a string array of zeros":         append(header(8, make([]byte, 8), [4]uint32{1000, 8, 0, 9}), empty...),
	} {
		path := file(t, append(rpmLead(), body...))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, err := ReadPackage(path)
		signature := VerifySignature(path, armored(t, key(t, func(c *packet.Config) { c.Algorithm = packet.PubKeyAlgoEdDSA })))
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: read as %v", what, p)
		}
		if signature == nil {
			t.Errorf("%s: accepted as signed", what)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 40<<20 {
			t.Errorf("%s: allocated %d MB", what, allocated>>20)
		}
	}
}

func repeat(e [4]uint32, n int) [][4]uint32 {
	all := make([][4]uint32, n)
	for i := range all {
		all[i] = e
	}
	return all
}

func TestVerifySignature(t *testing.T) {
	trusted, stranger := key(t, nil), key(t, nil)
	old := time.Now().Add(-48 * time.Hour)
	past := &packet.Config{Time: func() time.Time { return old }}
	expired := key(t, func(c *packet.Config) {
		c.Time = func() time.Time { return old }
		c.KeyLifetimeSecs = 3600
	})
	revoked := key(t, nil)
	if err := revoked.RevokeKey(packet.KeyCompromised, "stolen", nil); err != nil {
		t.Fatal(err)
	}
	edwards := key(t, func(c *packet.Config) { c.Algorithm = packet.PubKeyAlgoEdDSA })
	good := pack(t, signer(trusted, nil))
	for what, test := range map[string]struct {
		data []byte
		keys []*openpgp.Entity
		want string // in the error; "" is good
	}{
		"signed":                          {good, []*openpgp.Entity{trusted}, ""},
		"signed, among other keys":        {good, []*openpgp.Entity{stranger, trusted}, ""},
		"signed with Ed25519":             {pack(t, signer(edwards, nil)), []*openpgp.Entity{edwards}, ""},
		"by a key that has expired since": {pack(t, signer(expired, past)), []*openpgp.Entity{expired}, ""},
		"not signed":                      {pack(t, nil), []*openpgp.Entity{trusted}, "it is not signed"},
		"by another key":                  {pack(t, signer(stranger, nil)), []*openpgp.Entity{trusted}, "not among the public keys"},
		"by a revoked key":                {pack(t, rawSigner(revoked, crypto.SHA256, time.Now())), []*openpgp.Entity{revoked}, "revoked"},
		"by a key that was expired":       {pack(t, rawSigner(expired, crypto.SHA256, old.Add(24*time.Hour))), []*openpgp.Entity{expired}, "expired"},
		"over SHA-1":                      {pack(t, rawSigner(trusted, crypto.SHA1, time.Now())), []*openpgp.Entity{trusted}, "can be forged"},
		"over the header only":            {headerOnly(t, good), []*openpgp.Entity{trusted}, ""},
		"header only, payload changed":    {flip(headerOnly(t, good), len(good)-20), []*openpgp.Entity{trusted}, "does not match"},
		"payload changed":                 {flip(good, len(good)-20), []*openpgp.Entity{trusted}, "does not match"},
		"data after the payload":          {append(bytes.Clone(good), 0), []*openpgp.Entity{trusted}, "does not match"},
		"truncated":                       {good[:len(good)-1], []*openpgp.Entity{trusted}, "does not match"},
		"version changed":                 {bytes.Replace(good, []byte("1.2.3\x00"), []byte("9.2.3\x00"), 1), []*openpgp.Entity{trusted}, "does not match"},
	} {
		err := VerifySignature(file(t, test.data), armored(t, test.keys...))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", what, err, test.want)
		case test.want != "" && !fault.IsPermanent(err):
			t.Errorf("%s: %v is not permanent", what, err)
		}
	}
}

// rawSigner signs without checking whether the key is valid for signing.
func rawSigner(k *openpgp.Entity, digest crypto.Hash, at time.Time) func([]byte) ([]byte, error) {
	return func(data []byte) ([]byte, error) {
		h := digest.New()
		h.Write(data)
		sig := &packet.Signature{
			Version: k.PrimaryKey.Version, SigType: packet.SigTypeBinary, CreationTime: at,
			PubKeyAlgo: k.PrimaryKey.PubKeyAlgo, Hash: digest, IssuerKeyId: &k.PrimaryKey.KeyId,
		}
		if err := sig.Sign(h, k.PrivateKey, &packet.Config{NonDeterministicSignaturesViaNotation: packet.BoolPointer(false)}); err != nil {
			return nil, err
		}
		var out bytes.Buffer
		err := sig.Serialize(&out)
		return out.Bytes(), err
	}
}

// headerOnly disables a package's signature over header and payload (tag 1002)
// by giving it an unknown tag.
func headerOnly(t *testing.T, data []byte) []byte {
	t.Helper()
	tag, nothing := []byte{0, 0, 0x03, 0xea, 0, 0, 0, 7}, []byte{0, 0, 0x03, 0xff, 0, 0, 0, 7}
	if bytes.Count(data[:2000], tag) != 1 {
		t.Fatal("cannot find the signature's tag")
	}
	return bytes.Replace(data, tag, nothing, 1)
}

// A signature over the header covers the payload only if the header contains a
// strong digest of the payload.
func TestHasPayloadDigest(t *testing.T) {
	digest := []byte("abcdefg\x00")
	for what, test := range map[string]struct {
		algorithm byte
		tag       uint32
		want      bool
	}{
		"SHA-256": {8, 5092, true}, "SHA-512": {10, 5092, true}, "MD5": {1, 5092, false}, "SHA-1": {2, 5092, false},
		"unknown": {99, 5092, false}, "no digest": {8, 5999, false},
	} {
		store := append(bytes.Clone(digest), 0, 0, 0, test.algorithm)
		headers := append(append(rpmLead(), header(0, nil)...),
			header(uint32(len(store)), store, [4]uint32{test.tag, 8, 0, 1}, [4]uint32{5093, 4, 8, 1})...)
		if _, err := readHeaders(bytes.NewReader(headers)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := hasPayloadDigest(headers); got != test.want {
			t.Errorf("%s: %v, want %v", what, got, test.want)
		}
	}
}

func TestVerifySignatureRejectsInvalidKeyFiles(t *testing.T) {
	path := file(t, pack(t, signer(key(t, nil), nil)))
	for what, key := range map[string]string{
		"missing": filepath.Join(t.TempDir(), "missing"), "empty": file(t, nil), "binary": file(t, noise(3000)),
		"a package": path, "a directory": t.TempDir(), "too large": file(t, make([]byte, maxKeyring+1)),
		"no key in it": file(t, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n=twTO\n-----END PGP PUBLIC KEY BLOCK-----\n")),
	} {
		if err := VerifySignature(path, key); err == nil || !strings.Contains(err.Error(), "public key") {
			t.Errorf("%s: %v, want an error about the public key", what, err)
		}
	}
}

// No input makes the parsers panic, or is accepted as signed.
func FuzzReadPackage(f *testing.F) {
	good := pack(f, nil)
	f.Add(good)
	f.Add(good[:300])
	f.Add(append(append(rpmLead(), header(0, nil)...), header(8, []byte("abcdefg\x00"), [4]uint32{1000, 6, 0, 1})...))
	f.Add(append(rpmLead(), header(8, make([]byte, 8), [4]uint32{1000, 4, 0, 0x06000000})...))
	keys := openpgp.EntityList{key(f, func(c *packet.Config) { c.Algorithm = packet.PubKeyAlgoEdDSA })}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzzed/4 {
			return
		}
		p, err := readPackage(bytes.NewReader(data))
		if err == nil && (p.Name == "" || strings.ContainsAny(p.String(), "/\x1b\n")) {
			t.Errorf("accepted the package %q", p)
		}
		headers, err := readHeaders(bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := verifyPackage(bytes.NewReader(data), headers, keys); err == nil {
			t.Error("accepted as signed by a key that never signed")
		}
	})
}

func flip(data []byte, at int) []byte {
	changed := bytes.Clone(data)
	changed[at] ^= 1
	return changed
}
