// Package images has what the ways in have in common: a file that a host gets
// from a server, always with its sum, and the configuration to hand over.
package images

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
)

// MaxInput bounds a file that a person hands in, in bytes: an Ignition config
// to merge, a list of hosts, a network configuration.
const MaxInput = 4 << 20

// Remote is a file that a host gets from a server.
type Remote struct {
	URL    config.URL // http or https
	SHA256 string     // 64 lower-case hexadecimal digits
}

// Check refuses what a host could not fetch or would have to trust unseen.
// flag and sumFlag name the two on the command line.
func (r Remote) Check(flag, sumFlag string) error {
	if err := CheckURL(r.URL); err != nil {
		return fmt.Errorf("cannot use %s: %w", flag, err)
	}
	if r.SHA256 == "" {
		return engine.WithHint(fmt.Errorf("cannot use %s without %s: nothing unverified is executed", flag, sumFlag),
			"sha256sum FILE prints it")
	}
	if sum, err := hex.DecodeString(r.SHA256); err != nil || len(sum) != 32 || strings.ToLower(r.SHA256) != r.SHA256 {
		return engine.WithHint(fmt.Errorf("cannot use %s %q: not 64 lower-case hexadecimal digits", sumFlag, Truncate(r.SHA256)),
			"sha256sum FILE prints it")
	}
	return nil
}

// Ext is the ending of the file's name, with its dot and in lower case.
func (r Remote) Ext() string {
	u, err := url.Parse(r.URL.Reveal())
	if err != nil {
		return ""
	}
	return strings.ToLower(path.Ext(u.Path))
}

// CheckURL refuses what is no http or https address that can stand in a
// script, a unit and a kernel command line alike.
func CheckURL(location config.URL) error {
	raw := location.Reveal()
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"'\\`<>^|{}", r) }) {
		return errors.New("the url holds a character that must be written as %XX")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("the url cannot be understood")
	}
	if !slices.Contains([]string{"http", "https"}, u.Scheme) || u.Hostname() == "" {
		return engine.WithHint(fmt.Errorf("%q is not reached by http or https", location.String()), "such as http://10.0.0.5/firstboot")
	}
	return nil
}

// Truncate makes foreign text fit for an error: short, and without what could
// steer a terminal (the caller prints it with %q).
func Truncate(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// Indent puts each line that is not empty behind blanks.
func Indent(text string, blanks int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimRight(line, "\n") != "" {
			b.WriteString(strings.Repeat(" ", blanks))
		}
		b.WriteString(line)
	}
	return b.String()
}

// ShellQuote makes one word of a POSIX shell stand for exactly text.
func ShellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
