package cluster

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
)

// FuzzAnswer: no answer of a server makes the client panic or print control
// characters.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{`{"etcdserver":"3.5.16"}`, `{"action":"get","node":{"dir":true}}`, "<html>", "{", "null", `{"etcdserver":1}`, "Client sent an HTTP request to an HTTPS server."} {
		f.Add(400, []byte(s))
	}
	u := &url.URL{Scheme: "http", Host: "10.0.0.1:2379"}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		why := notEtcd(u, status, body)
		if why != "" && !strings.HasPrefix(why, u.Host+" ") {
			t.Errorf("%q", why)
		}
		if err := isV2(bytes.NewReader(body), u.String()); err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
			t.Errorf("%q", err)
		}
	})
}
