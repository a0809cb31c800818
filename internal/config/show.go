package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Entry is one effective value, fit to be shown.
type Entry struct {
	Key    string          `json:"key"`
	Value  string          `json:"-"`     // secrets masked; a list's items joined by a comma
	JSON   json.RawMessage `json:"value"` // the same, typed
	Origin string          `json:"origin"`
}

// Redacted lists every effective value in the order of the schema, secrets
// masked.
func (l *Loaded) Redacted() []Entry {
	var all []Entry
	for _, s := range flatten(l.Config) {
		e := Entry{Key: s.path, Origin: l.Origins[s.path], JSON: json.RawMessage(encode(s.value, redact))}
		if e.Origin == "" {
			e.Origin = "default"
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

// YAML is the effective configuration, secrets masked, each value's origin
// behind it as a comment.
func (l *Loaded) YAML() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", l.Digest)
	writeSettings(&b, "", flatten(l.Config), redact, func(path string) string {
		if origin := l.Origins[path]; origin != "" {
			return origin
		}
		return "default"
	})
	return b.Bytes()
}

// MarshalJSON is {"digest", "values": [{"key", "value", "origin"}],
// "warnings"}, secrets masked.
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

// Format serves every verb of fmt by naming the configuration, not by showing
// it: for a verb that does not fit, fmt would print what is behind a pointer
// without asking the values how they want to be shown.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "configuration %s", Digest(&c)) }

// Format is Config's.
func (l Loaded) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "configuration %s", l.Digest) }
