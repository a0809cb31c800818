package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// withSecrets has the same secret in every value that can be secret.
const withSecrets = minimal + `
node:
  image: calico/node:v3.23.0
  url: https://user:hunter2@mirror.example.com/node.tar?X-Signature=hunter2
  sha256: ` + sampleDigest + `
  environment: {TOKEN: hunter2}
calicoctl: {url: "https://hunter2@mirror.example.com/calicoctl#hunter2", sha256: ` + sampleDigest + `}
minions:
  environment: {TOKEN: hunter2}
proxy: {http: "http://user:hunter2@proxy:3128", https: "socks5://hunter2@proxy"}
report: {url: "https://u:hunter2@boot/done?token=hunter2"}
`

// TestNothingPrintsASecret formats, logs and marshals a configuration and its
// parts in every way.
func TestNothingPrintsASecret(t *testing.T) {
	l, err := loadText(t, withSecrets)
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	for name, v := range map[string]any{
		"Loaded": l, "*Loaded": *l, "struct": struct{ C *Config }{c}, "Config": c, "*Config": *c, "Node": c.Node, "Environment": c.Node.Environment,
		"Secret": c.Node.Environment["TOKEN"], "URL": c.Node.URL, "Proxy": c.Proxy, "origins": l.Origins,
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10.3v"} {
			noSecret(t, name+" "+verb, fmt.Sprintf(verb, v))
		}
		noSecret(t, name+" error", fmt.Errorf("cannot use %v: %s", v, v).Error())
		j, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		noSecret(t, name+" JSON", string(j))
		y, err := yaml.Marshal(v)
		if err != nil && name != "Loaded" && name != "*Loaded" && name != "struct" {
			t.Errorf("%s: %v", name, err)
		}
		noSecret(t, name+" YAML", string(y))
		for _, h := range []func(*bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(h(&b)).Info("x", "value", v)
			noSecret(t, name+" slog", b.String())
		}
	}
	noSecret(t, "YAML", string(l.YAML()))
	noSecret(t, "Redacted", fmt.Sprint(l.Redacted()))
}

func noSecret(t *testing.T, what, text string) {
	t.Helper()
	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2")} {
		if strings.Contains(text, form) {
			t.Errorf("%s contains the secret: %s", what, text)
		}
	}
}

// TestRevealReturnsTheSecret: from a loaded and from a saved configuration.
func TestRevealReturnsTheSecret(t *testing.T) {
	l, err := loadText(t, withSecrets)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := l.Save(&b); err != nil {
		t.Fatal(err)
	}
	again, err := LoadEffective(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Config{l.Config, again.Config} {
		if got := c.Node.Environment["TOKEN"].Reveal(); got != "hunter2" {
			t.Errorf("TOKEN is %q", got)
		}
		if got, want := c.Proxy.HTTP.Reveal(), "http://user:hunter2@proxy:3128"; got != want {
			t.Errorf("proxy is %q, want %q", got, want)
		}
	}
}
