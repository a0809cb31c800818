package config

import (
	"context"
	"io"
)

// Options say where Load looks.
type Options struct {
	Root           string   // the machine's or image's root folder; empty: /
	Files          []string // --config: exactly these, the search path and every other source left out
	Cmdline        string   // the kernel's command line; empty: /proc/cmdline where Root is /
	NoKernel       bool     // leave the kernel's command line out
	CredentialsDir string   // $CREDENTIALS_DIRECTORY of the service; empty: none

	// Fetch gets what firstboot.config=URL on the kernel's command line names.
	// The answer is checked against the sum again. nil: such a URL is refused.
	Fetch func(ctx context.Context, url URL, sha256 string) ([]byte, error)
}

// Loaded is a valid configuration and where each of its values came from.
type Loaded struct {
	Config   *Config
	Origins  map[string]string // key ("etcd.endpoints", "sysctl.net.ipv4.ip_forward") → "FILE:LINE:COL", "default", "kernel command line", …
	Digest   string            // "sha256:…" of the effective values
	Warnings []Problem
}

// Entry is one effective value, fit to be shown.
type Entry struct {
	Key    string
	Value  string // secrets masked
	Origin string
}

// Load reads all sources, each over the one before, and validates the
// result. What is wrong in the configuration comes back as Problems, all at
// once; any other error is one of reaching a source.
func Load(ctx context.Context, o Options) (*Loaded, error) { return nil, ctx.Err() }

// LoadEffective reads what Save wrote.
func LoadEffective(data []byte) (*Loaded, error) { return nil, nil }

// Save writes the effective configuration with its origins and secrets: the
// caller keeps the file at mode 0600.
func (l *Loaded) Save(w io.Writer) error { return nil }

// Redacted lists every effective value in the order of the schema, secrets
// masked.
func (l *Loaded) Redacted() []Entry { return nil }
