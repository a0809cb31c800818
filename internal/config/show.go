package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Entry is one effective value, with secrets masked.
type Entry struct {
	Key    string          `json:"key"`
	Value  string          `json:"-"`     // as text; the items of a list are separated by commas
	JSON   json.RawMessage `json:"value"` // with its type
	Origin string          `json:"origin"`
}

// Redacted returns every effective value in the order of the schema, with
// secrets masked.
func (l *Loaded) Redacted() []Entry {
	var all []Entry
	for _, s := range flatten(l.Config) {
		e := Entry{Key: s.path, Origin: l.Origins[s.path], JSON: json.RawMessage(encode(s.value, redact))}
		if e.Origin == "" {
			e.Origin = defaultSource
		}
		if list, ok := s.value.([]string); ok {
			e.Value = strings.Join(list, ", ")
		} else if json.Unmarshal(e.JSON, &e.Value) != nil { // a number, true or false
			e.Value = string(e.JSON)
		}
		all = append(all, e)
	}
	return all
}

// YAML returns the effective configuration with secrets masked. A comment after
// each value gives its origin.
func (l *Loaded) YAML() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", l.Digest)
	writeSettings(&b, "", flatten(l.Config), redact, func(path string) string {
		if origin := l.Origins[path]; origin != "" {
			return origin
		}
		return defaultSource
	})
	return b.Bytes()
}

// MarshalJSON returns {"digest", "values": [{"key", "value", "origin"}],
// "warnings"}, with secrets masked.
func (l *Loaded) MarshalJSON() ([]byte, error) {
	warnings := make([]string, len(l.Warnings))
	for i, w := range l.Warnings {
		warnings[i] = w.Error()
	}
	return json.Marshal(struct {
		Digest   string   `json:"digest"`
		Values   []Entry  `json:"values"`
		Warnings []string `json:"warnings"`
	}{l.Digest, l.Redacted(), warnings})
}

// Format prints no value, for every verb. For an unsuitable verb, fmt would print
// the fields without calling their own formatting methods, and so reveal secrets.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprint(f, "configuration") }

// Format prints only the digest, for the same reason.
func (l Loaded) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "configuration %s", l.Digest) }
