package dockerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/text"
)

// apiVersion is a version of the Engine API.
type apiVersion struct{ major, minor int }

func (v apiVersion) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v apiVersion) newerThan(other apiVersion) bool {
	return v.major > other.major || v.major == other.major && v.minor > other.minor
}

// The versions that firstboot knows. 1.40 came with Docker 19.03, the oldest
// release that is supported; 1.41 with Docker 20.10, the last with a cluster-store;
// 1.44 came with Docker 25 and is the oldest that Docker 29 serves.
var (
	oldestAPI        = apiVersion{1, 40}
	lastAPIWithStore = apiVersion{1, 41}
	newestAPI        = apiVersion{1, 44}
)

// parseAPIVersion parses a version such as "1.44".
func parseAPIVersion(s string) (apiVersion, bool) {
	major, minor, ok := strings.Cut(s, ".")
	x, err := strconv.ParseUint(major, 10, 16)
	y, err2 := strconv.ParseUint(minor, 10, 16)
	if !ok || err != nil || err2 != nil {
		return apiVersion{}, false
	}
	return apiVersion{int(x), int(y)}, true
}

// chooseAPI returns the newest version that firstboot and a daemon have in common.
// A daemon that no longer serves any of them is used with its oldest version,
// which differs least. minimum is zero if it is unknown.
func chooseAPI(minimum, maximum apiVersion) (apiVersion, error) {
	switch {
	case oldestAPI.newerThan(maximum):
		return apiVersion{}, fault.WithHint(fault.Permanent, fault.Config,
			fmt.Errorf("cannot use Docker: it serves the API up to version %s, but %s is needed", maximum, oldestAPI), "install Docker 19.03 or newer")
	case minimum.newerThan(newestAPI):
		return minimum, nil
	case maximum.newerThan(newestAPI):
		return newestAPI, nil
	}
	return maximum, nil
}

// negotiation remembers the version that a daemon and firstboot have in common.
type negotiation struct {
	mu     sync.Mutex
	chosen apiVersion
}

// get returns the version, the zero value if it is not known.
func (n *negotiation) get() apiVersion {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.chosen
}

func (n *negotiation) set(v apiVersion) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.chosen = v
}

// api returns the version to use. It queries the daemon once, or twice if two calls
// begin at the same time: no call waits for the query of another one.
func (d *Client) api(ctx context.Context) (apiVersion, error) {
	if chosen := d.version.get(); chosen != (apiVersion{}) {
		return chosen, nil
	}
	resp, err := d.do(ctx, http.MethodGet, "/_ping", nil, nil, "")
	if err != nil {
		return apiVersion{}, err
	}
	resp.Body.Close()
	maximum, ok := parseAPIVersion(resp.Header.Get("Api-Version"))
	if !ok {
		return apiVersion{}, fmt.Errorf("cannot use Docker: its API version %q is not valid", text.Line(resp.Header.Get("Api-Version")))
	}
	var minimum apiVersion
	if maximum.newerThan(newestAPI) {
		if minimum, err = d.oldestServed(ctx); err != nil {
			return apiVersion{}, err
		}
	}
	chosen, err := chooseAPI(minimum, maximum)
	if err != nil {
		return apiVersion{}, err
	}
	d.version.set(chosen)
	return chosen, nil
}

// oldestServed returns the oldest version that the daemon serves.
func (d *Client) oldestServed(ctx context.Context) (apiVersion, error) {
	resp, err := d.do(ctx, http.MethodGet, "/version", nil, nil, "")
	if err != nil {
		return apiVersion{}, err
	}
	defer resp.Body.Close()
	var body struct{ MinAPIVersion string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(&body); err != nil {
		return apiVersion{}, errors.New("cannot decode Docker's response to /version: " + text.Line(err.Error()))
	}
	minimum, ok := parseAPIVersion(body.MinAPIVersion)
	if !ok {
		return apiVersion{}, fmt.Errorf("cannot use Docker: its oldest API version %q is not valid", text.Line(body.MinAPIVersion))
	}
	return minimum, nil
}

var releaseNumber = regexp.MustCompile(`(\d+)\.(\d+)\.\d+`)

// Release parses the version of a Docker, such as 20.10.24+dfsg1, or the output of
// dockerd --version, into 20 and 10.
func Release(version string) (major, minor int, ok bool) {
	m := releaseNumber.FindStringSubmatch(version)
	if m == nil {
		return 0, 0, false
	}
	major, errMajor := strconv.Atoi(m[1])
	minor, errMinor := strconv.Atoi(m[2])
	return major, minor, errMajor == nil && errMinor == nil
}
