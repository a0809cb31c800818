package artifact

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/cavaliergopher/rpm"
	"github.com/sassoftware/go-rpmutils"
)

// maxKeyring bounds a file of public keys, in bytes.
const maxKeyring = 1 << 20

// VerifySignature checks that the RPM at path carries an OpenPGP signature
// over all of it by a key in the armored file keyring, and that every
// signature it carries is good. Keys count as they were when they signed: a
// key that expired since is good, a revoked one is not.
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
		return refuse("is it the right file?", "cannot read the package %s: %v", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read the package %s: %w", path, plain(err))
	}
	if err := verifyPackage(f, headers, keys); err != nil {
		return refuse("", "cannot trust the package %s: %v", path, err)
	}
	return nil
}

// readKeyring reads one armored block of public keys.
func readKeyring(path string) (keys openpgp.EntityList, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the public key %s: %w", path, plain(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyring+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the public key %s: %w", path, plain(err))
	}
	if len(data) > maxKeyring {
		return nil, refuse("", "cannot read the public key %s: more than %d bytes", path, maxKeyring)
	}
	keys, err = decodeKeyring(data)
	if err != nil {
		return nil, refuse("export it with gpg --armor --export KEY", "cannot read the public key %s: %v", path, err)
	}
	return keys, nil
}

func decodeKeyring(data []byte) (keys openpgp.EntityList, err error) {
	defer recovered(&err)
	keys, err = openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s", clip(err.Error()))
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no key")
	}
	return keys, nil
}

func verifyPackage(whole io.Reader, headers []byte, keys openpgp.EntityList) (err error) {
	defer recovered(&err)
	_, signatures, err := rpmutils.Verify(bufio.NewReaderSize(io.LimitReader(whole, maxPackage), 128<<10), keys)
	var unknown rpmutils.KeyNotFoundError
	if errors.As(err, &unknown) {
		return fmt.Errorf("it is signed by %s, which is not in the file", keyName(unknown.KeyID, unknown.Fingerprint))
	}
	if err != nil {
		return fmt.Errorf("its signature or digest does not hold: %s", clip(err.Error()))
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
	// A signature over the header covers the payload by its digest there.
	if !covered && !payloadPinned(headers) {
		return errors.New("its signature does not cover the payload")
	}
	return nil
}

// checkSigner accepts no digest that collisions are known of, and no key that
// could not sign then.
func checkSigner(s *rpmutils.Signature) error {
	if !soundHash(s.Hash) {
		return fmt.Errorf("it is signed over a %s digest, which can be forged", s.Hash)
	}
	if s.Signer == nil {
		return fmt.Errorf("nothing is known of %s, which signed it", keyName(s.KeyId, s.KeyFingerprint))
	}
	id := s.KeyId
	for _, sub := range s.Signer.Subkeys {
		// A signature may name its key by fingerprint alone.
		if bytes.Equal(sub.PublicKey.Fingerprint, s.KeyFingerprint) {
			id = sub.PublicKey.KeyId
		}
	}
	if _, ok := s.Signer.SigningKeyById(s.CreationTime, id); !ok {
		return fmt.Errorf("%s, which signed it on %s, was expired then, is revoked, or is not for signing",
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

// payloadPinned tells whether the header holds a digest of the payload (tags
// PAYLOADDIGEST and PAYLOADDIGESTALGO) by an algorithm that holds: SHA-256,
// 384, 512 or 224, as OpenPGP numbers them.
func payloadPinned(headers []byte) bool {
	p, err := rpm.Read(bytes.NewReader(headers))
	if err != nil || p.Header.GetTag(5092).String() == "" {
		return false
	}
	algorithm := p.Header.GetTag(5093).Int64()
	return algorithm >= 8 && algorithm <= 11
}
