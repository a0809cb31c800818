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

// signer makes a key, its public half and the signature of text, armored.
func signer(t *testing.T, text string) (public, signature string) {
	t.Helper()
	site, err := openpgp.NewEntity("site", "", "site@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	var key, sig bytes.Buffer
	w, err := armor.Encode(&key, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Serialize(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openpgp.ArmoredDetachSign(&sig, site, strings.NewReader(text), nil); err != nil {
		t.Fatal(err)
	}
	return key.String(), sig.String()
}

// TestSignedConfigurationByURL: what a key in the image signed is taken and
// kept; anything else leaves the host as it was, with exit code 3.
func TestSignedConfigurationByURL(t *testing.T) {
	const keyFile = "/usr/lib/firstboot/site.asc"
	public, signature := signer(t, validConfig)
	_, foreign := signer(t, validConfig)
	for _, c := range []struct {
		name, text, sig string
		code            int
		say             string
	}{
		{"signed", validConfig, signature, app.ExitDone, "third"},
		{"another text", validConfig + "docker: {restart: allow}\n", signature, app.ExitConfig, "cannot trust the signature: it does not match the content"},
		{"another key", validConfig, foreign, app.ExitConfig, "which is not among the public keys"},
		{"no signature", validConfig, "", app.ExitConfig, "host.yaml.asc of the configuration: the server answered 404"},
		{"an endless signature", validConfig, strings.Repeat("a", 2<<20), app.ExitConfig, "more than 65536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				text := map[string]string{"/host.yaml": c.text, "/host.yaml.asc": c.sig}[r.URL.Path]
				if text == "" {
					w.WriteHeader(http.StatusNotFound)
				}
				_, _ = w.Write([]byte(text))
			}))
			t.Cleanup(web.Close)
			m := newMachine(t)
			m.put("/etc/firstboot/config.yaml", "")
			m.put(keyFile, public)
			m.cmdline = fmt.Sprintf("quiet firstboot.config=%s/host.yaml firstboot.config.signedBy=%s", web.URL, keyFile)
			m.runs(c.code, c.say)
			if kept := m.h.Exists(state.EffectivePath); kept != (c.code == app.ExitDone) {
				t.Errorf("the configuration was kept: %v", kept)
			}
			if c.code != app.ExitDone {
				m.cmdline = strings.Replace(m.cmdline, " firstboot.config.signedBy="+keyFile, "", 1)
				m.runs(app.ExitConfig, "needs firstboot.config.sha256 or firstboot.config.signedBy")
			}
		})
	}
}
