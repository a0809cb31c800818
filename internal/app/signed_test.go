package app_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/state"
)

// sign creates a key and returns its public key and its signature of text, both
// armored.
func sign(t *testing.T, text string) (public, signature string) {
	t.Helper()
	entity, err := openpgp.NewEntity("site", "", "site@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	var key, sig bytes.Buffer
	w, err := armor.Encode(&key, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := entity.Serialize(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openpgp.ArmoredDetachSign(&sig, entity, strings.NewReader(text), nil); err != nil {
		t.Fatal(err)
	}
	return key.String(), sig.String()
}

// A configuration that a key in the image has signed is used and saved. Any other
// leaves the host unchanged, with exit code 3.
func TestSignedConfigurationByURL(t *testing.T) {
	const keyFile = "/usr/lib/firstboot/site.asc"
	public, signature := sign(t, validConfig)
	_, foreign := sign(t, validConfig)
	for _, c := range []struct {
		name, text, sig string
		code            int
		words           string
	}{
		{"signed", validConfig, signature, app.ExitDone, "third"},
		{"another text", validConfig + "docker: {restart: allow}\n", signature, app.ExitConfig, "cannot trust the signature: it does not match the content"},
		{"another key", validConfig, foreign, app.ExitConfig, "which is not among the public keys"},
		{"no signature", validConfig, "", app.ExitConfig, "host.yaml.asc of the configuration: the server answered 404"},
		{"an endless signature", validConfig, strings.Repeat("a", 2<<20), app.ExitConfig, "the server sent more than 1000000 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				text := map[string]string{"/host.yaml": c.text, "/host.yaml.asc": c.sig}[r.URL.Path]
				if text == "" {
					w.WriteHeader(http.StatusNotFound)
				}
				_, _ = w.Write([]byte(text))
			}))
			t.Cleanup(server.Close)
			m := newMachine(t)
			m.writeFile("/etc/firstboot/config.yaml", "")
			m.writeFile(keyFile, public)
			m.cmdline = fmt.Sprintf("quiet firstboot.config=%s/host.yaml firstboot.config.signedBy=%s", server.URL, keyFile)
			m.runs(c.code, c.words)
			if saved := m.h.Exists(state.EffectivePath); saved != (c.code == app.ExitDone) {
				t.Errorf("the configuration was saved: %v", saved)
			}
			if c.code != app.ExitDone {
				m.cmdline = strings.Replace(m.cmdline, " firstboot.config.signedBy="+keyFile, "", 1)
				m.runs(app.ExitConfig, "needs firstboot.config.sha256 or firstboot.config.signedBy")
			}
		})
	}
}
