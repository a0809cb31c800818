package artifact

import (
	"errors"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/projecteru2/firstboot/internal/text"
)

// location is a parsed Ref.URL: a local path or a remote URL.
type location struct {
	path   string   // of a local file; empty: remote
	remote *url.URL // http or https
}

// parseLocation parses an http, https or file URL or an absolute path. Its
// errors do not contain the URL, which may contain credentials.
func parseLocation(raw string) (location, error) {
	if filepath.IsAbs(raw) {
		return location{path: filepath.Clean(raw)}, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return location{}, errors.New("cannot parse the url")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			return location{}, errors.New("the url has no host")
		}
		return location{remote: u}, nil
	case "file":
		if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
			return location{}, errors.New("a file url must have the form file:///directory/name")
		}
		return location{path: filepath.Clean(u.Path)}, nil
	case "":
		return location{}, errors.New("a path must begin with /")
	}
	return location{}, errors.New("the url must begin with http://, https:// or file:///")
}

// redact returns a URL without user, password, query and fragment, which may
// contain secrets. A URL that cannot be parsed is masked entirely.
func redact(raw string) string {
	const mask = "***"
	if raw == "" || filepath.IsAbs(raw) {
		return text.Line(raw)
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
	return text.Line(b.String())
}
