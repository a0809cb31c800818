package adapter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/projecteru2/firstboot/internal/text"
)

// call is one call of Docker.
type call struct {
	method string
	url    url.URL
	header http.Header
	body   []byte
	params params // set by decode
}

// params are the fields of Docker's requests that the adapter uses (moby's
// libnetwork/drivers/remote/api).
type params struct {
	NetworkID  string
	EndpointID string
	Interface  *struct{ Address string }
	Options    map[string]json.RawMessage
	IPv4Data   []ipam
	IPv6Data   []ipam
}

// ipam is one subnet of a new network.
type ipam struct{ Pool, Gateway string }

// decode reads the fields of the body, which must be one JSON object.
func (c *call) decode() error {
	body := bytes.TrimSpace(c.body)
	if len(body) == 0 {
		return errEmpty
	}
	err := json.Unmarshal(body, &c.params)
	if err == nil && body[0] != '{' {
		err = fmt.Errorf("%s is not an object", text.Line(string(body)))
	}
	if err != nil {
		return fmt.Errorf("Docker's request cannot be read: %s; run the docker command again, and compare docker version with the versions that firstboot supports (19.03 to 29)", text.Line(err.Error())) //nolint:staticcheck // a proper name
	}
	return nil
}

// withNetworkID returns the call with another network ID. All other fields stay.
func (c call) withNetworkID(id string) (call, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(c.body, &fields); err != nil {
		return call{}, err
	}
	removeField(fields, "NetworkID")
	quoted, err := json.Marshal(id)
	if err != nil {
		return call{}, err
	}
	fields["NetworkID"] = quoted
	c.body, err = encode(fields)
	return c, err
}

// removeField removes a field in every spelling that encoding/json accepts for it,
// because the plugin uses the last one.
func removeField(fields map[string]json.RawMessage, name string) (removed bool) {
	for key := range fields {
		if strings.EqualFold(key, name) {
			delete(fields, key)
			removed = true
		}
	}
	return removed
}

// encode encodes a value as Docker does: without changing <, > and &.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return b.Bytes(), err
}

// address returns the address of the endpoint that the call creates.
func (p params) address() (netip.Addr, bool) {
	if p.Interface == nil {
		return netip.Addr{}, false
	}
	prefix, err := netip.ParsePrefix(p.Interface.Address)
	return prefix.Addr(), err == nil
}

// id is the form of Docker's IDs, which have 64 hexadecimal digits. The name of a
// link and of a file is made from one.
var id = regexp.MustCompile(`^[0-9A-Za-z]{11,64}$`)

// link returns the host's end of an endpoint's veth pair. eru-minions names it
// like this (driver/calico/network/network.go, Join).
func (p params) link() (string, error) {
	if !id.MatchString(p.EndpointID) {
		return "", fmt.Errorf("%q is not an endpoint ID", text.Line(p.EndpointID))
	}
	return linkOf(p.EndpointID), nil
}

func linkOf(endpointID string) string { return "cali" + endpointID[:11] }

// otherEnd returns the end of the veth pair that Docker moves into the container.
func otherEnd(endpointID string) string { return "temp" + endpointID[:11] }

// failure is the answer that reports err. Docker shows the text to whoever typed
// the docker command. Like go-plugins-helpers it has the status 500.
func failure(err error) answer {
	body, _ := encode(struct{ Err string }{text.LineOf(err.Error(), maxErr)}) // a string is always encoded
	return answer{http.StatusInternalServerError, http.Header{"Content-Type": {contentType}}, body}
}

// maxErr bounds an Err, in bytes.
const maxErr = 1000

// errorText returns the error that an answer of the plugin reports, or "".
func errorText(body []byte) string {
	var result struct{ Err string }
	_ = json.Unmarshal(body, &result) // an answer without the field reports none
	return result.Err
}
