// Package images holds what the provisioning methods share: files that a host
// downloads, always verified by their SHA-256, and checks of user input.
package images

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/secret"
)

// MaxInput limits the size of an input file in bytes: an Ignition config to
// merge, a list of hosts, a network configuration.
const MaxInput = 4 << 20

// Remote is a file that a host downloads from a server.
type Remote struct {
	URL    secret.URL // http or https
	SHA256 string     // 64 lowercase hexadecimal digits
}

// Check reports an error if a host cannot download or cannot verify the file.
// urlFlag and digestFlag are the names of the two command-line flags.
func (r Remote) Check(urlFlag, digestFlag string) error {
	if err := CheckURL(r.URL); err != nil {
		return fmt.Errorf("cannot use %s: %w", urlFlag, err)
	}
	if r.SHA256 == "" {
		return engine.WithHint(fmt.Errorf("cannot use %s without %s: nothing unverified is executed", urlFlag, digestFlag),
			"sha256sum FILE prints it")
	}
	if digest, err := hex.DecodeString(r.SHA256); err != nil || len(digest) != 32 || strings.ToLower(r.SHA256) != r.SHA256 {
		return engine.WithHint(fmt.Errorf("cannot use %s %q: not 64 lowercase hexadecimal digits", digestFlag, Truncate(r.SHA256)),
			"sha256sum FILE prints it")
	}
	return nil
}

// Ext returns the extension of the file's name, with its dot, in lower case.
func (r Remote) Ext() string {
	u, err := url.Parse(r.URL.Reveal())
	if err != nil {
		return ""
	}
	return strings.ToLower(path.Ext(u.Path))
}

// CheckURL reports an error unless location is an http or https URL that can be
// written unquoted into scripts, units and kernel command lines.
func CheckURL(location secret.URL) error {
	raw := location.Reveal()
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"'\\`<>^|{}", r) }) {
		return errors.New("the URL contains a character that must be written as %XX")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("the URL cannot be parsed")
	}
	if !slices.Contains([]string{"http", "https"}, u.Scheme) {
		return engine.WithHint(fmt.Errorf("%q must begin with http:// or https://", location.String()), "write it as http://HOST/PATH")
	}
	if u.Hostname() == "" {
		return engine.WithHint(fmt.Errorf("%q has no host name", location.String()), "write it as http://HOST/PATH")
	}
	if _, port, ok := strings.Cut(u.Host[strings.LastIndexByte(u.Host, ']')+1:], ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return engine.WithHint(fmt.Errorf("%q has no valid port", location.String()), "write it as http://HOST:8080/PATH, or without a port")
		}
	}
	return nil
}

// Truncate shortens untrusted text for an error message. The caller prints it
// with %q, which escapes terminal control sequences.
func Truncate(s string) string {
	const limit = 80 // bytes
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// Indent indents each line that is not empty by a number of spaces.
func Indent(text string, spaces int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimRight(line, "\n") != "" {
			b.WriteString(strings.Repeat(" ", spaces))
		}
		b.WriteString(line)
	}
	return b.String()
}

// ShellQuote quotes text as one word of a POSIX shell.
func ShellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
