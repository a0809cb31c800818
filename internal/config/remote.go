package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// SignatureSuffix is what a configuration's URL gets at the end of its path to
// name the detached signature, as gpg --armor names its file.
const SignatureSuffix = ".asc"

// fetch reads the configuration that the kernel's command line names. It is
// root's code, so its sum or its signature is required.
func (l *loader) fetchRemote(d *decoder, from remoteConfig) error {
	if from.url == "" {
		d.fail(from.at, "", "firstboot.config names nothing to fetch", "write firstboot.config=URL")
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
		return fmt.Errorf("cannot use the configuration %s: its sha256 is %x, wanted %s", from.url, sum, from.sha256)
	}
	if from.signedBy != "" {
		if err := l.verifySignature(from, data); err != nil {
			return err
		}
	}
	l.add(Source{Name: from.url.String(), Data: data})
	return nil
}

// check finds what is wrong with the arguments before anything is fetched.
func (from remoteConfig) check() Problems {
	v := &validator{layer: layer{}}
	for _, path := range []string{"firstboot.config", "firstboot.config.sha256", "firstboot.config.signedBy"} {
		v.layer[path] = value{at: from.at}
	}
	v.checkURL("firstboot.config", from.url, "http", "https", "file")
	if from.sha256 == "" && from.signedBy == "" {
		v.fail("firstboot.config", "nothing says what it must contain",
			"add firstboot.config.sha256=SUM, or firstboot.config.signedBy=/PATH/OF/KEY")
	}
	if message, hint := checkDigest(from.sha256); from.sha256 != "" && message != "" {
		v.fail("firstboot.config.sha256", message, hint)
	}
	if from.signedBy != "" && !cleanAbsolute(from.signedBy) {
		v.fail("firstboot.config.signedBy", "must be the absolute path of a public key in this machine's image", "")
	}
	return v.problems
}

// signed checks the signature over a configuration that was fetched.
func (l *loader) verifySignature(from remoteConfig, data []byte) error {
	if l.options.Verify == nil {
		return fmt.Errorf("cannot check the signature of the configuration %s: this command cannot", from.url)
	}
	keys, found, err := l.tree.read(from.signedBy)
	if err != nil {
		return fmt.Errorf("cannot check the signature of the configuration %s: %w", from.url, err)
	}
	if !found {
		return fmt.Errorf("cannot check the signature of the configuration %s: this machine has no %s, which firstboot.config.signedBy names"+
			" (put the public key into the image: gpg --armor --export KEY)", from.url, from.signedBy)
	}
	at := signatureURL(from.url)
	signature, err := l.options.Fetch(l.ctx, at)
	if err != nil {
		return fmt.Errorf("cannot fetch the signature %s of the configuration: %w (gpg --armor --detach-sign FILE makes it)", at, err)
	}
	if err := l.options.Verify(data, signature, keys); err != nil {
		return fmt.Errorf("cannot use the configuration %s, signature %s, key %s: %w", from.url, at, from.signedBy, err)
	}
	return nil
}

// signatureOf is where the signature of what is at a URL or path lies.
func signatureURL(location URL) URL {
	raw := location.Reveal()
	u, err := url.Parse(raw)
	if err != nil || strings.HasPrefix(raw, "/") {
		return URL(raw + SignatureSuffix)
	}
	u.Path += SignatureSuffix
	if u.RawPath != "" {
		u.RawPath += SignatureSuffix
	}
	return URL(u.String())
}
