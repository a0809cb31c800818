package artifact

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/cavaliergopher/rpm"
	"github.com/sassoftware/go-rpmutils"

	"github.com/projecteru2/firstboot/internal/text"
)

// maxKeyring bounds a file of public keys, in bytes.
const maxKeyring = 1_000_000

// VerifySignature verifies that the RPM at path has an OpenPGP signature over
// header and payload by a key in the armored file keyring, and that all its
// signatures are valid. It checks a key's expiry at the time of the signature,
// and rejects a revoked key.
func VerifySignature(path, keyring string) error {
	keys, err := readKeyring(keyring)
	if err != nil {
		return err
	}
	f, err := openPackage(path)
	if err != nil {
		return err
	}
	defer f.Close()
	headers, err := readHeaders(f)
	if err != nil {
		return invalidf(hintPackage, "cannot read the package %s: %v", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read the package %s: %w", path, withoutPath(err))
	}
	if err := verifyPackage(f, headers, keys); err != nil {
		return invalidf("", "cannot trust the package %s: %v", path, err)
	}
	return nil
}

// readKeyring reads the armored public keys of a file.
func readKeyring(path string) (keys openpgp.EntityList, err error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the public key %s: %w", path, withoutPath(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyring+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the public key %s: %w", path, withoutPath(err))
	}
	if len(data) > maxKeyring {
		return nil, invalidf("", "cannot read the public key %s: more than %d bytes", path, maxKeyring)
	}
	keys, err = decodeKeyring(data)
	if err != nil {
		return nil, invalidf("export it with gpg --armor --export KEY", "cannot read the public key %s: %v", path, err)
	}
	return keys, nil
}

// decodeKeyring decodes every armored block of public keys. A vendor adds its new
// key to a file by appending a block, and rpm --import reads all of them.
func decodeKeyring(data []byte) (keys openpgp.EntityList, err error) {
	defer recoverPanic(&err)
	begin := []byte("-----BEGIN PGP ")
	blocks := bytes.Split(data, begin)
	for i, block := range blocks[1:] {
		found, err := openpgp.ReadArmoredKeyRing(io.MultiReader(bytes.NewReader(begin), bytes.NewReader(block)))
		if err != nil {
			return nil, fmt.Errorf("block %d of %d: %s", i+1, len(blocks)-1, text.Line(err.Error()))
		}
		keys = append(keys, found...)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key found")
	}
	return keys, nil
}

// verifyPackage verifies the signatures of the RPM rpmFile, whose headers
// readHeaders has checked.
func verifyPackage(rpmFile io.Reader, headers []byte, keys openpgp.EntityList) (err error) {
	defer recoverPanic(&err)
	_, signatures, err := rpmutils.Verify(bufio.NewReaderSize(io.LimitReader(rpmFile, maxPackage), 128<<10), keys)
	var unknown rpmutils.KeyNotFoundError
	if errors.As(err, &unknown) {
		return fmt.Errorf("it is signed by %s, which is not among the public keys", keyName(unknown.KeyID, unknown.Fingerprint))
	}
	if err != nil {
		return fmt.Errorf("its signature or digest does not match: %s", text.Line(err.Error()))
	}
	if len(signatures) == 0 {
		return errors.New("it is not signed")
	}
	covered := false
	for _, s := range signatures {
		if err := checkSigner(s); err != nil {
			return err
		}
		covered = covered || !s.HeaderOnly
	}
	// A signature over the header covers the payload if the header contains
	// the payload's digest.
	if !covered && !hasPayloadDigest(headers) {
		return errors.New("its signature does not cover the payload")
	}
	return nil
}

// checkSigner rejects a weak digest, and a key that was not valid for signing at
// the time of the signature.
func checkSigner(s *rpmutils.Signature) error {
	if !isStrongHash(s.Hash) {
		return fmt.Errorf("its signature uses a %s digest, which can be forged", s.Hash)
	}
	if s.Signer == nil {
		return fmt.Errorf("it is signed by %s, which is unknown", keyName(s.KeyId, s.KeyFingerprint))
	}
	id := s.KeyId
	for _, sub := range s.Signer.Subkeys {
		// A signature may identify its key by the fingerprint only.
		if bytes.Equal(sub.PublicKey.Fingerprint, s.KeyFingerprint) {
			id = sub.PublicKey.KeyId
		}
	}
	if _, ok := s.Signer.SigningKeyById(s.CreationTime, id); !ok {
		return fmt.Errorf("%s, which signed it on %s, was expired then, is revoked or is not a signing key",
			keyName(id, nil), s.CreationTime.UTC().Format("2006-01-02"))
	}
	return nil
}

func keyName(id uint64, fingerprint []byte) string {
	if len(fingerprint) > 0 {
		return fmt.Sprintf("key %X", fingerprint)
	}
	return fmt.Sprintf("key %016X", id)
}

// hasPayloadDigest reports whether the header contains a strong digest of the
// payload (tags PAYLOADDIGEST and PAYLOADDIGESTALGO): SHA-256, SHA-384, SHA-512
// or SHA-224, in OpenPGP's numbering 8 to 11.
func hasPayloadDigest(headers []byte) bool {
	p, err := rpm.Read(bytes.NewReader(headers))
	if err != nil || p.Header.GetTag(5092).String() == "" {
		return false
	}
	algorithm := p.Header.GetTag(5093).Int64()
	return algorithm >= 8 && algorithm <= 11
}
