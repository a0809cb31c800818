package adapter

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// pluginFunc is a plugin without a socket.
type pluginFunc func(*http.Request) (*http.Response, error)

func (f pluginFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzRequest sends a request of Docker and gives an answer of the plugin. The
// adapter always answers, deletes only links of endpoints, and changes nothing but
// the network ID of what it passes on.
func FuzzRequest(f *testing.F) {
	methods := []string{"CreateNetwork", "DeleteNetwork", "CreateEndpoint", "DeleteEndpoint", "Join", "Leave", "EndpointOperInfo", "Unknown"}
	inside := `{"NetworkID":"` + dockerNetwork + `","EndpointID":"` + dockerEndpoint + `","Interface":{"Address":"10.213.0.2/16"},"Options":{"a":1e400}}`
	for i := range methods {
		f.Add(uint8(i), []byte(inside), []byte(`{"GatewayIPv6":"fe80::1","StaticRoutes":[{"Destination":"fe80::1/128"},7]}`))
	}
	f.Add(uint8(2), []byte(strings.Replace(inside, "10.213", "10.99", 1)), []byte(`{"Err":"x"}`))
	f.Add(uint8(0), []byte(`{"IPv4Data":[{"Pool":"10.213.0.0/16","Gateway":"0.0.0.0/0"},null]}`), []byte(`{}`))
	f.Add(uint8(2), []byte(`{"NetworkID":"a","networkid":"b","Interface":{"Address":"10.213.0.2/16"}}`), []byte("\x00"))
	f.Add(uint8(4), []byte("null"), []byte("[["))
	m := newMachine(f)
	m.setUp(f)
	f.Fuzz(func(t *testing.T, which uint8, request, response []byte) {
		method := methods[int(which)%len(methods)]
		m.links.removed, m.lines = nil, nil
		var forwarded []byte
		m.client.Transport = pluginFunc(func(r *http.Request) (*http.Response, error) {
			forwarded, _ = io.ReadAll(r.Body)
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(response))}, nil
		})
		w := httptest.NewRecorder()
		m.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/NetworkDriver."+method, bytes.NewReader(request)))
		for _, name := range m.links.removed {
			if !regexp.MustCompile(`^cali[0-9A-Za-z]{11}$`).MatchString(name) {
				t.Errorf("removed the link %q", name)
			}
		}
		if forwarded == nil && w.Code != http.StatusOK {
			wantReason(t, w.Body.Bytes())
		}
		if forwarded != nil && !bytes.Equal(forwarded, request) {
			wantOnlyNetworkIDChanged(t, method, request, forwarded)
		}
	})
}

// wantReason fails the test unless an answer has a printable reason.
func wantReason(t *testing.T, body []byte) {
	t.Helper()
	var answer struct{ Err string }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Err == "" || len(answer.Err) > maxErr+4 ||
		strings.ContainsFunc(answer.Err, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%v: the answer is %q", err, body)
	}
}

// wantOnlyNetworkIDChanged compares what Docker sent with what the plugin got.
func wantOnlyNetworkIDChanged(t *testing.T, method string, request, forwarded []byte) {
	t.Helper()
	var sent, got map[string]json.RawMessage
	if err := json.Unmarshal(request, &sent); err != nil {
		t.Fatalf("%q was changed to %q: %v", request, forwarded, err)
	}
	if err := json.Unmarshal(forwarded, &got); err != nil {
		t.Fatalf("%q is not JSON: %v", forwarded, err)
	}
	removeField(sent, "NetworkID")
	for key, value := range sent {
		var a, b bytes.Buffer
		if json.Compact(&a, value) != nil || json.Compact(&b, got[key]) != nil || a.String() != b.String() {
			t.Errorf("%s was changed from %s to %s", key, value, got[key])
		}
	}
	if string(got["NetworkID"]) != `"firstboot-pool"` || len(got) != len(sent)+1 {
		t.Errorf("%q was changed to %q", request, forwarded)
	}
	var p params
	if err := json.Unmarshal(request, &p); err != nil {
		t.Fatal(err)
	}
	if address, ok := p.address(); method == "CreateEndpoint" && (!ok || !netip.MustParsePrefix("10.213.0.0/16").Contains(address)) {
		t.Errorf("%v is not in the pool", address)
	}
}
