package config

import "bytes"

// Explicit is what the sources say, as one configuration without defaults and
// comments: what to hand to another machine. It holds secrets where
// HoldsSecrets says so.
func (l *Loaded) Explicit() []byte {
	var given []setting
	for _, s := range flatten(l.Config) {
		if origin := l.Origins[s.path]; origin != "" && origin != "default" {
			given = append(given, s)
		}
	}
	var b bytes.Buffer
	writeSettings(&b, "", given, reveal, nil)
	return b.Bytes()
}

// HoldsSecrets tells whether a value must not be shown to everyone.
func (l *Loaded) HoldsSecrets() bool {
	for _, s := range flatten(l.Config) {
		if reveal(s.value) != redact(s.value) {
			return true
		}
	}
	return false
}
