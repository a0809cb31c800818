package artifact

import (
	"errors"
	"net/url"
	"path/filepath"
	"strings"
)

// location is a Ref's URL, understood: a file of this machine, or remote.
type location struct {
	path   string   // of a local file; empty: remote
	remote *url.URL // http or https
}

// locate understands http, https, file and plain absolute paths. Its errors
// never hold the URL: it may hold credentials.
func locate(raw string) (location, error) {
	if filepath.IsAbs(raw) {
		return location{path: filepath.Clean(raw)}, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return location{}, errors.New("the url cannot be understood")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			return location{}, errors.New("the url names no host")
		}
		return location{remote: u}, nil
	case "file":
		if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
			return location{}, errors.New("a file url looks like file:///folder/name")
		}
		return location{path: filepath.Clean(u.Path)}, nil
	case "":
		return location{}, errors.New("a path must begin with /")
	}
	return location{}, errors.New("its scheme is none of http, https, file")
}

// redact is a URL without user, password and the query's values, which may be
// a signature. What cannot be parsed is not shown at all.
func redact(raw string) string {
	const mask = "***"
	if raw == "" || filepath.IsAbs(raw) {
		return clip(raw)
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
	return clip(b.String())
}
