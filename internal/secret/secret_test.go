package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestNothingPrintsASecret formats, logs and marshals each type in every way.
func TestNothingPrintsASecret(t *testing.T) {
	for _, v := range []any{
		Value("hunter2"), URL("https://u:hunter2@host/x?t=hunter2#hunter2"), Webhook("https://hunter2@host/hunter2?hunter2"),
		map[string]Value{"A": "hunter2"}, []URL{"https://hunter2@host/"}, struct{ W Webhook }{"https://host/hunter2"},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3v"} {
			noSecret(t, verb, fmt.Sprintf(verb, v))
		}
		for name, marshal := range map[string]func(any) ([]byte, error){"JSON": json.Marshal, "YAML": yaml.Marshal} {
			data, err := marshal(v)
			if err != nil {
				t.Errorf("%s of %T: %v", name, v, err)
			}
			noSecret(t, name, string(data))
		}
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "value", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "value", v)
		noSecret(t, "slog", b.String())
	}
}

func noSecret(t *testing.T, what, text string) {
	t.Helper()
	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2")} {
		if strings.Contains(text, form) {
			t.Errorf("%s contains the secret: %s", what, text)
		}
	}
}

func TestReveal(t *testing.T) {
	if Value("a").Reveal() != "a" || URL("http://a@b").Reveal() != "http://a@b" || Webhook("http://a/b").Reveal() != "http://a/b" {
		t.Error("Reveal does not return the secret")
	}
}

// TestURLShowsNoCredentials: only the credentials of a URL are masked, and of a
// webhook also the path.
func TestURLShowsNoCredentials(t *testing.T) {
	for _, c := range []struct{ raw, url, webhook string }{
		{"", "", ""},
		{"/srv/calicoctl", "/srv/calicoctl", "***"},
		{"file:///srv/calicoctl", "file:///srv/calicoctl", "***"},
		{"https://mirror.example.com/a/b%20c", "https://mirror.example.com/a/b%20c", "https://mirror.example.com/***"},
		{"http://10.0.0.1:8080/x", "http://10.0.0.1:8080/x", "http://10.0.0.1:8080/***"},
		{"http://10.0.0.1:8080", "http://10.0.0.1:8080", "http://10.0.0.1:8080"},
		{"http://10.0.0.1/", "http://10.0.0.1/", "http://10.0.0.1"},
		{"https://user:pw@host:1/x", "https://***@host:1/x", "https://host:1/***"},
		{"https://user@host/x?sig=pw#frag", "https://***@host/x?***", "https://host/***"},
		{"https://host?pw", "https://host?***", "https://host/***"},
		{"user:pw@host", "***", "***"},
		{"http://user:pw@[bad", "***", "***"},
		{"mailto:pw@host", "***", "***"},
	} {
		if got := URL(c.raw).String(); got != c.url {
			t.Errorf("the URL %q shows as %q, want %q", c.raw, got, c.url)
		}
		if got := Webhook(c.raw).String(); got != c.webhook {
			t.Errorf("the webhook %q shows as %q, want %q", c.raw, got, c.webhook)
		}
	}
}

func TestSecretsOfURL(t *testing.T) {
	for raw, want := range map[string][]string{
		"https://user:p%40w@host/x?sig=abc&y=d%2Fe": {"p@w", "abc", "d/e", "dXNlcjpwQHc="},
		"https://token@host/x":                      {"token"},
		"https://host/x?token":                      {"token"},
		"https://host/x#token":                      {"token"},
		"http://user:pw@[bad":                       {"http://user:pw@[bad"},
	} {
		if got := URL(raw).Secrets(); slices.ContainsFunc(want, func(s string) bool { return !slices.Contains(got, s) }) {
			t.Errorf("%s has the secrets %q, want %q", raw, got, want)
		}
	}
	if got := URL("https://user@host/a/b").Secrets(); slices.Contains(got, "/a/b") {
		t.Errorf("the path of a URL counts as secret: %q", got)
	}
	got := NewMask(Webhook("https://host/services/T000/Bq3vX9aQ1z").Secrets()...).Text("POST /services/T000/Bq3vX9aQ1z, Bq3vX9aQ1z; the services")
	if want := "POST ***, ***; the services"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
