package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"github.com/projecteru2/firstboot/internal/secret"
)

// SignatureSuffix is appended to the path of a configuration's URL to get the
// URL of its detached signature. gpg --armor uses the same suffix.
const SignatureSuffix = ".asc"

// fetchRemote fetches the configuration that the kernel command line names. It
// decides what root executes, so a digest or a signature is required.
func (l *loader) fetchRemote(d *decoder, from remoteConfig) error {
	if from.url == "" {
		d.fail(from.at, "", "firstboot.config has no URL", "write firstboot.config=URL")
		return nil
	}
	if problems := from.check(); len(problems) > 0 {
		d.problems, d.unreadable = append(d.problems, problems...), true
		return nil
	}
	if l.options.Fetch == nil {
		return fmt.Errorf("cannot fetch the configuration %s: this command does not use the network", from.url)
	}
	data, err := l.options.Fetch(l.ctx, from.url)
	if err != nil {
		return fmt.Errorf("cannot fetch the configuration %s: %w", from.url, err)
	}
	if sum := sha256.Sum256(data); from.sha256 != "" && hex.EncodeToString(sum[:]) != from.sha256 {
		return fmt.Errorf("cannot use the configuration %s: its sha256 is %x, expected %s", from.url, sum, from.sha256)
	}
	if from.signedBy != "" {
		if err := l.verifySignature(from, data); err != nil {
			return err
		}
	}
	l.add(Source{Name: from.url.String(), Data: data})
	return nil
}

// check validates the arguments before anything is fetched.
func (from remoteConfig) check() Problems {
	v := &validator{layer: layer{}}
	for _, path := range []string{"firstboot.config", "firstboot.config.sha256", "firstboot.config.signedBy"} {
		v.layer[path] = value{at: from.at}
	}
	v.checkURL("firstboot.config", from.url, "http", "https", "file")
	if from.sha256 == "" && from.signedBy == "" {
		v.fail("firstboot.config", "needs firstboot.config.sha256 or firstboot.config.signedBy",
			"add firstboot.config.sha256=DIGEST or firstboot.config.signedBy=/PATH/OF/KEY")
	}
	if message, hint := checkDigest(from.sha256); from.sha256 != "" && message != "" {
		v.fail("firstboot.config.sha256", message, hint)
	}
	if from.signedBy != "" && !cleanAbsolute(from.signedBy) {
		v.fail("firstboot.config.signedBy", "must be the absolute path of a public key on this machine", "")
	}
	return v.problems
}

// verifySignature checks the signature of a configuration that was fetched.
func (l *loader) verifySignature(from remoteConfig, data []byte) error {
	if l.options.Verify == nil {
		return fmt.Errorf("cannot check the signature of the configuration %s: this command does not support signatures", from.url)
	}
	keys, found, err := l.tree.read(from.signedBy)
	if err != nil {
		return fmt.Errorf("cannot check the signature of the configuration %s: %w", from.url, err)
	}
	if !found {
		return fmt.Errorf("cannot check the signature of the configuration %s: the key file %s of firstboot.config.signedBy does not exist"+
			" (add the public key to the image: gpg --armor --export KEY)", from.url, from.signedBy)
	}
	at := signatureURL(from.url)
	signature, err := l.options.Fetch(l.ctx, at)
	if err != nil {
		return fmt.Errorf("cannot fetch the signature %s of the configuration: %w (create it with: gpg --armor --detach-sign FILE)", at, err)
	}
	if err := l.options.Verify(data, signature, keys); err != nil {
		return fmt.Errorf("cannot use the configuration %s, signature %s, key %s: %w", from.url, at, from.signedBy, err)
	}
	return nil
}

// signatureURL returns the URL or path of the signature of the file at
// location.
func signatureURL(location secret.URL) secret.URL {
	raw := location.Reveal()
	u, err := url.Parse(raw)
	if err != nil || strings.HasPrefix(raw, "/") {
		return secret.URL(raw + SignatureSuffix)
	}
	u.Path += SignatureSuffix
	if u.RawPath != "" {
		u.RawPath += SignatureSuffix
	}
	return secret.URL(u.String())
}
