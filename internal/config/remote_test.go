package config

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/secret"
)

// TestSignedConfiguration: a configuration by URL may be verified by a
// signature. The error names what is missing or wrong, and no part of the
// configuration is used.
func TestSignedConfiguration(t *testing.T) {
	const keyFile = "/usr/lib/firstboot/site.asc"
	const by = " firstboot.config.signedBy=" + keyFile
	text := minimal + "node: {asNumber: 5}\n"
	served := map[string]string{
		"http://u:hunter2@boot/host.yaml?token=hunter2":     text,
		"http://u:hunter2@boot/host.yaml.asc?token=hunter2": "good",
		"http://boot/unsigned.yaml":                         text,
		"http://boot/forged.yaml":                           text + "pool: {name: other}\n",
		"http://boot/forged.yaml.asc":                       "good",
		"/boot/host.yaml":                                   text,
		"/boot/host.yaml.asc":                               "good",
	}
	host := "firstboot.config=http://u:hunter2@boot/host.yaml?token=hunter2"
	for _, c := range []struct{ name, line, key, err string }{
		{"signed", host + by, "key", ""},
		{"a path", "firstboot.config=/boot/host.yaml" + by, "key", ""},
		{"signed and sha256", host + by + " firstboot.config.sha256=" + sha256Hex(text), "key", ""},
		{"signed, wrong sha256", host + by + " firstboot.config.sha256=" + sampleDigest, "key", "its sha256 is " + sha256Hex(text)},
		{"no key", host + by, "", "the key file /usr/lib/firstboot/site.asc of firstboot.config.signedBy does not exist (add the public key to the image"},
		{"another key", host + by, "other", "cannot use the configuration http://***@boot/host.yaml?***, signature http://***@boot/host.yaml.asc?***, key /usr/lib/firstboot/site.asc: forged"},
		{"no signature", "firstboot.config=http://boot/unsigned.yaml" + by, "key", "cannot fetch the signature http://boot/unsigned.yaml.asc of the configuration: 404 (create it with: gpg --armor --detach-sign FILE)"},
		{"changed text", "firstboot.config=http://boot/forged.yaml" + by, "key", "key /usr/lib/firstboot/site.asc: forged"},
		{"relative key path", host + " firstboot.config.signedBy=site.asc", "key", "firstboot.config.signedBy: must be the absolute path of a public key"},
		{"key without URL", strings.TrimSpace(by), "key", "firstboot.config has no URL"},
		{"empty key path", host + " firstboot.config.signedBy=", "key", "firstboot.config: needs firstboot.config.sha256 or firstboot.config.signedBy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"/etc/hostname": "a\n"}
			if c.key != "" {
				files[keyFile] = c.key
			}
			o := Options{Root: rootWith(t, files), Cmdline: "ro " + c.line,
				Fetch: func(_ context.Context, u secret.URL) ([]byte, error) {
					if text, ok := served[u.Reveal()]; ok {
						return []byte(text), nil
					}
					return nil, errors.New("404")
				},
				Verify: func(data, signature, keys []byte) error {
					if string(data) == text && string(signature) == "good" && string(keys) == "key" {
						return nil
					}
					return errors.New("forged")
				}}
			l, err := Load(t.Context(), o)
			switch {
			case c.err == "" && (err != nil || l.Config.Node.ASNumber != 5):
				t.Errorf("%v, %v", l, err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("got  %v\nwant %s", err, c.err)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error contains a secret: %v", err)
			}
			o.Verify = nil
			if _, err := Load(t.Context(), o); err == nil {
				t.Error("accepted without Verify")
			}
		})
	}
}
