package config

import "bytes"

// Explicit returns the values that the sources set, as YAML without defaults
// and comments. Another machine that reads it gets the same configuration.
// Secrets are not masked; HoldsSecrets reports whether there are any.
func (l *Loaded) Explicit() []byte {
	var explicit []setting
	for _, s := range flatten(l.Config) {
		if origin := l.Origins[s.path]; origin != "" && origin != defaultSource {
			explicit = append(explicit, s)
		}
	}
	var b bytes.Buffer
	writeSettings(&b, "", explicit, reveal, nil)
	return b.Bytes()
}

// HoldsSecrets reports whether the configuration contains a secret.
func (l *Loaded) HoldsSecrets() bool {
	for _, s := range flatten(l.Config) {
		if reveal(s.value) != redact(s.value) {
			return true
		}
	}
	return false
}
