package secret

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// URL is a URL or path that may contain credentials, such as
// http://user:password@host/ or a signed query. Everything except Reveal masks
// the user information, the query and the fragment.
type URL string

// Reveal returns the whole URL, for the code that fetches it.
func (u URL) Reveal() string { return string(u) }

// Secrets returns the texts that a Mask must remove: the credentials.
func (u URL) Secrets() []string { return credentials(string(u)) }

// String returns the URL with its credentials masked.
func (u URL) String() string { return redact(string(u), false) }

// GoString implements fmt.GoStringer.
func (u URL) GoString() string { return fmt.Sprintf("secret.URL(%q)", u.String()) }

// Format implements fmt.Formatter for every verb, including %x and %d.
func (u URL) Format(f fmt.State, verb rune) { format(f, verb, u.String(), u.GoString()) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML encoders use.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Webhook is a URL whose path may be a secret too, as the URLs are that chat
// services issue. Everything except Reveal shows only its scheme and host.
type Webhook string

// Reveal returns the whole URL, for the code that posts to it.
func (w Webhook) Reveal() string { return string(w) }

// Secrets returns the texts that a Mask must remove: the credentials and the
// path.
func (w Webhook) Secrets() []string {
	all := credentials(string(w))
	u, err := url.Parse(string(w))
	if err != nil || u.Path == "" || u.Path == "/" {
		return all
	}
	all = append(all, u.Path, u.EscapedPath())
	for _, name := range strings.Split(u.Path, "/") {
		if len(name) >= shortestName {
			all = append(all, name)
		}
	}
	return all
}

// shortestName is the length, in bytes, from which a name in a webhook's path is
// masked by itself. Shorter ones are mostly words such as "hooks".
const shortestName = 9

// String returns the scheme and host.
func (w Webhook) String() string { return redact(string(w), true) }

// GoString implements fmt.GoStringer.
func (w Webhook) GoString() string { return fmt.Sprintf("secret.Webhook(%q)", w.String()) }

// Format implements fmt.Formatter for every verb, including %x and %d.
func (w Webhook) Format(f fmt.State, verb rune) { format(f, verb, w.String(), w.GoString()) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML encoders use.
func (w Webhook) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// redact masks the user information, query and fragment of a URL, and with
// hidePath also its path. If it cannot be parsed, all of it is masked. A path
// without a scheme is returned unchanged, unless hidePath is set.
func redact(raw string, hidePath bool) string {
	if raw == "" || strings.HasPrefix(raw, "/") && !hidePath {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" && (u.Scheme != "file" || hidePath) {
		return hidden
	}
	var b strings.Builder
	b.WriteString(u.Scheme + "://")
	if hidePath {
		b.WriteString(u.Host)
		if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			b.WriteString("/" + hidden)
		}
		return b.String()
	}
	if u.User != nil {
		b.WriteString(hidden + "@")
	}
	b.WriteString(u.Host + u.EscapedPath())
	if u.RawQuery != "" || u.Fragment != "" {
		b.WriteString("?" + hidden)
	}
	return b.String()
}

// credentials returns the secrets of a URL: password, a user without one, query
// and fragment, and the user information as HTTP sends it.
func credentials(raw string) []string {
	u, err := url.Parse(raw)
	if err != nil {
		return []string{raw}
	}
	all := []string{u.RawQuery, u.Fragment, u.RawFragment}
	if u.User != nil {
		password, ok := u.User.Password()
		if !ok {
			password = u.User.Username() // a token
		}
		basic := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
		all = append(all, password, u.User.String(), basic)
	}
	for name, values := range u.Query() {
		all = append(all, values...)
		if strings.Join(values, "") == "" { // ?TOKEN
			all = append(all, name)
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}
