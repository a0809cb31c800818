package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
)

// mask stands where a secret would.
const mask = "***"

// Secret is text that no formatting, logging or marshalling gives away; only
// Reveal does.
type Secret string

// Reveal returns the secret itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String is the mask, or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString serves %#v.
func (s Secret) GoString() string { return fmt.Sprintf("config.Secret(%q)", s.String()) }

// Format serves every verb of fmt, %x and %d included.
func (s Secret) Format(f fmt.State, verb rune) { format(f, verb, s.String(), s.GoString()) }

// MarshalText serves YAML, JSON map keys and text encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue serves log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// URL is a location that may carry credentials (http://user:password@host/,
// or a signed query): everything but Reveal masks those.
type URL string

// Reveal returns the whole location, for the one place that fetches it.
func (u URL) Reveal() string { return string(u) }

// String is the location without its credentials.
func (u URL) String() string { return redactURL(string(u)) }

// GoString serves %#v.
func (u URL) GoString() string { return fmt.Sprintf("config.URL(%q)", u.String()) }

// Format serves every verb of fmt, %x and %d included.
func (u URL) Format(f fmt.State, verb rune) { format(f, verb, u.String(), u.GoString()) }

// MarshalText serves YAML, JSON and text encoders.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// LogValue serves log/slog.
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

// redactURL masks user information, the query's values and the fragment of a
// location. What looks like a URL and cannot be parsed is masked whole.
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
