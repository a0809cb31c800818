package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
)

// mask is printed instead of a secret.
const mask = "***"

// Secret is text that formatting, logging and marshalling mask. Only Reveal
// returns it.
type Secret string

// Reveal returns the secret itself, for the code that uses it.
func (s Secret) Reveal() string { return string(s) }

// String returns the mask, or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return fmt.Sprintf("config.Secret(%q)", s.String()) }

// Format implements fmt.Formatter for every verb, including %x and %d.
func (s Secret) Format(f fmt.State, verb rune) { format(f, verb, s.String(), s.GoString()) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML encoders use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// URL is a URL or path that may contain credentials, such as
// http://user:password@host/ or a signed query. Everything except Reveal masks
// them.
type URL string

// Reveal returns the whole URL, for the code that fetches it.
func (u URL) Reveal() string { return string(u) }

// String returns the URL with credentials masked.
func (u URL) String() string { return redactURL(string(u)) }

// GoString implements fmt.GoStringer.
func (u URL) GoString() string { return fmt.Sprintf("config.URL(%q)", u.String()) }

// Format implements fmt.Formatter for every verb, including %x and %d.
func (u URL) Format(f fmt.State, verb rune) { format(f, verb, u.String(), u.GoString()) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML encoders use.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// LogValue implements slog.LogValuer.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

func format(f fmt.State, verb rune, plain, goSyntax string) {
	switch {
	case verb == 'v' && f.Flag('#'):
		fmt.Fprint(f, goSyntax)
	case verb == 'q':
		fmt.Fprintf(f, "%q", plain)
	default:
		fmt.Fprint(f, plain)
	}
}

// redactURL masks the user information, query and fragment of a URL. If it
// cannot be parsed, all of it is masked. A path is returned unchanged.
func redactURL(raw string) string {
	if raw == "" || strings.HasPrefix(raw, "/") {
		return raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" && u.Scheme != "file" {
		return mask
	}
	var b strings.Builder
	b.WriteString(u.Scheme + "://")
	if u.User != nil {
		b.WriteString(mask + "@")
	}
	b.WriteString(u.Host + u.EscapedPath())
	if u.RawQuery != "" || u.Fragment != "" {
		b.WriteString("?" + mask)
	}
	return b.String()
}
