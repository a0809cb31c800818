// Package secret holds the types of values that must not be shown, and a mask
// that removes them from text. It knows nothing about where secrets come from.
//
// Formatting, logging and marshalling a value of these types shows a mask. Only
// the method Reveal returns the secret.
package secret

import (
	"fmt"
)

// hidden is shown instead of a secret.
const hidden = "***"

// Value is secret text, such as a password.
type Value string

// Reveal returns the secret itself, for the code that uses it.
func (v Value) Reveal() string { return string(v) }

// Secrets returns the texts that a Mask must remove.
func (v Value) Secrets() []string { return []string{string(v)} }

// String returns the mask, or "" for an empty secret.
func (v Value) String() string {
	if v == "" {
		return ""
	}
	return hidden
}

// GoString implements fmt.GoStringer.
func (v Value) GoString() string { return fmt.Sprintf("secret.Value(%q)", v.String()) }

// Format implements fmt.Formatter for every verb, including %x and %d.
func (v Value) Format(f fmt.State, verb rune) { format(f, verb, v.String(), v.GoString()) }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML encoders use.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

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
