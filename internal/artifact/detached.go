package artifact

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// MaxDetached bounds a detached signature, in bytes. One by RSA 4096 has 900.
const MaxDetached = 64 << 10

// VerifyDetachedSignature checks an armored OpenPGP signature over data, as gpg --armor
// --detach-sign makes it, by one of the armored public keys. Keys count as
// they were when they signed, so that a clock which is not set yet decides
// nothing; a key that is revoked in keys is refused whenever it signed.
func VerifyDetachedSignature(data, signature, keys []byte) error {
	if len(keys) > maxKeyring {
		return refuse("", "cannot read the public key: more than %d bytes", maxKeyring)
	}
	known, err := decodeKeyring(keys)
	if err != nil {
		return refuse("export it with gpg --armor --export KEY", "cannot read the public key: %v", err)
	}
	if len(signature) > MaxDetached {
		return refuse("", "cannot read the signature: more than %d bytes", MaxDetached)
	}
	if err := verifyDetached(data, signature, known); err != nil {
		return refuse("", "cannot trust the signature: %v", err)
	}
	return nil
}

func verifyDetached(data, signature []byte, keys openpgp.EntityList) (err error) {
	defer recovered(&err)
	body, err := dearmor(signature)
	if err != nil {
		return err
	}
	made, err := madeBy(body, keys)
	if err != nil {
		return err
	}
	sig, signer, err := openpgp.VerifyDetachedSignature(keys, bytes.NewReader(data), bytes.NewReader(body),
		&packet.Config{Time: func() time.Time { return made }})
	if err != nil {
		return fmt.Errorf("it does not hold: %s", clip(err.Error()))
	}
	switch {
	case !soundHash(sig.Hash):
		return fmt.Errorf("it is over a %s digest, which can be forged", sig.Hash)
	case sig.SigType != packet.SigTypeBinary:
		return errors.New("it is of another kind than gpg --armor --detach-sign makes")
	case revokedEver(signer, *sig.IssuerKeyId):
		return fmt.Errorf("%s, which made it, is revoked", keyName(*sig.IssuerKeyId, sig.IssuerFingerprint))
	case sig.SigLifetimeSecs != nil && time.Now().After(made) && sig.SigExpired(time.Now()):
		return fmt.Errorf("it ran out on %s", made.Add(time.Duration(*sig.SigLifetimeSecs)*time.Second).UTC().Format("2006-01-02"))
	}
	return nil
}

// dearmor takes the armor off one signature.
func dearmor(signature []byte) ([]byte, error) {
	block, err := armor.Decode(bytes.NewReader(signature))
	if err != nil || block.Type != openpgp.SignatureType {
		return nil, errors.New("it is not what gpg --armor --detach-sign writes")
	}
	body, err := io.ReadAll(io.LimitReader(block.Body, MaxDetached))
	if err != nil {
		return nil, fmt.Errorf("its armor is damaged: %s", clip(err.Error()))
	}
	return body, nil
}

// madeBy says when the first signature by a known key was made.
func madeBy(body []byte, keys openpgp.EntityList) (time.Time, error) {
	unknown := ""
	for packets := packet.NewReader(bytes.NewReader(body)); ; {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) && unknown != "" {
			return time.Time{}, fmt.Errorf("it is by %s, which is not among the public keys", unknown)
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("it is damaged: %s", clip(err.Error()))
		}
		sig, ok := p.(*packet.Signature)
		if !ok || sig.IssuerKeyId == nil {
			return time.Time{}, errors.New("it does not name the key that made it")
		}
		if len(keys.KeysByIdUsage(*sig.IssuerKeyId, packet.KeyFlagSign)) > 0 {
			return sig.CreationTime, nil
		}
		unknown = keyName(*sig.IssuerKeyId, sig.IssuerFingerprint)
	}
}

// revokedEver tells whether the key, or the one it belongs to, was revoked at
// any time.
func revokedEver(signer *openpgp.Entity, id uint64) bool {
	end := time.Unix(1<<40, 0)
	for _, key := range (openpgp.EntityList{signer}).KeysById(id) {
		if signer.Revoked(end) || key.PublicKey != signer.PrimaryKey && key.Revoked(end) {
			return true
		}
	}
	return false
}

// soundHash tells the digests of which no collision is known.
func soundHash(h crypto.Hash) bool {
	switch h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224, crypto.SHA3_256, crypto.SHA3_512:
		return true
	}
	return false
}
