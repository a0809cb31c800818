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

	"github.com/projecteru2/firstboot/internal/text"
)

// maxDetachedSignature bounds a detached signature, in bytes. One made with RSA
// 4096 has 900.
const maxDetachedSignature = 64 << 10

// VerifyDetachedSignature verifies an armored OpenPGP signature over data (gpg
// --armor --detach-sign) against armored public keys. It checks a key's expiry
// at the time of the signature, because the machine's clock may not be set yet.
// It rejects a revoked key, whenever it signed.
func VerifyDetachedSignature(data, signature, keys []byte) error {
	if len(keys) > maxKeyring {
		return invalidf("", "cannot read the public key: more than %d bytes", maxKeyring)
	}
	keyring, err := decodeKeyring(keys)
	if err != nil {
		return invalidf("export it with gpg --armor --export KEY", "cannot read the public key: %v", err)
	}
	if len(signature) > maxDetachedSignature {
		return invalidf("", "cannot read the signature: more than %d bytes", maxDetachedSignature)
	}
	if err := verifyDetached(data, signature, keyring); err != nil {
		return invalidf("", "cannot trust the signature: %v", err)
	}
	return nil
}

func verifyDetached(data, signature []byte, keys openpgp.EntityList) (err error) {
	defer recoverPanic(&err)
	body, err := dearmor(signature)
	if err != nil {
		return err
	}
	signed, err := signatureTime(body, keys)
	if err != nil {
		return err
	}
	sig, signer, err := openpgp.VerifyDetachedSignature(keys, bytes.NewReader(data), bytes.NewReader(body),
		&packet.Config{Time: func() time.Time { return signed }})
	if err != nil {
		return fmt.Errorf("it does not match the content: %s", text.Line(err.Error()))
	}
	switch {
	case !isStrongHash(sig.Hash):
		return fmt.Errorf("it uses a %s digest, which can be forged", sig.Hash)
	case sig.SigType != packet.SigTypeBinary:
		return errors.New("it is not a signature over a binary file (gpg --armor --detach-sign)")
	case isRevoked(signer, *sig.IssuerKeyId):
		return fmt.Errorf("%s, which made it, is revoked", keyName(*sig.IssuerKeyId, sig.IssuerFingerprint))
	case sig.SigLifetimeSecs != nil && time.Now().After(signed) && sig.SigExpired(time.Now()):
		return fmt.Errorf("it expired on %s", signed.Add(time.Duration(*sig.SigLifetimeSecs)*time.Second).UTC().Format("2006-01-02"))
	}
	return nil
}

// dearmor decodes one armored signature.
func dearmor(signature []byte) ([]byte, error) {
	block, err := armor.Decode(bytes.NewReader(signature))
	if err != nil || block.Type != openpgp.SignatureType {
		return nil, errors.New("it is not an armored signature (gpg --armor --detach-sign)")
	}
	body, err := io.ReadAll(io.LimitReader(block.Body, maxDetachedSignature))
	if err != nil {
		return nil, fmt.Errorf("its armor is damaged: %s", text.Line(err.Error()))
	}
	return body, nil
}

// signatureTime returns the creation time of the first signature by one of the
// keys.
func signatureTime(body []byte, keys openpgp.EntityList) (time.Time, error) {
	unknown := ""
	for packets := packet.NewReader(bytes.NewReader(body)); ; {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) && unknown != "" {
			return time.Time{}, fmt.Errorf("it was made by %s, which is not among the public keys", unknown)
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("it is damaged: %s", text.Line(err.Error()))
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

// isRevoked reports whether the key or its primary key is revoked, whatever the
// date of the revocation.
func isRevoked(signer *openpgp.Entity, id uint64) bool {
	farFuture := time.Unix(1<<40, 0)
	for _, key := range (openpgp.EntityList{signer}).KeysById(id) {
		if signer.Revoked(farFuture) || key.PublicKey != signer.PrimaryKey && key.Revoked(farFuture) {
			return true
		}
	}
	return false
}

// isStrongHash reports whether no collision of the hash function is known.
func isStrongHash(h crypto.Hash) bool {
	switch h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224, crypto.SHA3_256, crypto.SHA3_512:
		return true
	}
	return false
}
