package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/text"
)

// Error is a failed call to etcd.
type Error struct {
	Action    string      // completes "cannot … etcd": "reach", "read IPPool x from"
	Endpoints []string    // the configured endpoints
	Err       error       // the cause
	Class     fault.Class // Transient, or Permanent such as after a wrong password
	Kind      fault.Kind  // Unknown: that of Err
	Advice    string      // how to fix it; may be empty
}

func (e *Error) Error() string {
	return fmt.Sprintf("cannot %s etcd at %s: %v", e.Action, strings.Join(e.Endpoints, ", "), e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// FaultClass implements fault.Classified.
func (e *Error) FaultClass() fault.Class { return e.Class }

// FaultKind implements fault.Classified.
func (e *Error) FaultKind() fault.Kind { return e.Kind }

// Hint returns how to fix the error; it may be empty.
func (e *Error) Hint() string { return e.Advice }

// wrapError returns err as an Error. If the deadline passed, the etcd client does
// not report why, so wrapError probes the endpoints.
func (c *Client) wrapError(action string, err error) error {
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	e := &Error{Action: action, Endpoints: c.endpoints, Err: grpcMessage(err), Class: fault.Transient}
	if class := fault.ClassOf(err); class != fault.Unclassified {
		e.Class = class
	}
	switch {
	case authFailed(err):
		e.Class, e.Kind, e.Advice = fault.Permanent, fault.Auth, userHint
	case permissionDenied(err):
		e.Class, e.Kind, e.Advice = fault.Permanent, fault.Auth, "grant the etcd user read and write for "+strings.Join(Prefixes(), ", ")
	case errors.Is(err, rpctypes.ErrNoSpace):
		e.Kind, e.Advice = fault.Disk, "etcd has reached its disk quota: compact and defragment it, then run: etcdctl alarm disarm"
	case timedOut(err):
		e.Kind = fault.Timeout
		if why := c.connectError(); why != nil {
			e.Class, e.Kind, e.Advice = fault.ClassOf(why), fault.KindOf(why), fault.Hint(why)
			e.Err = &shortError{why.Error(), err}
		} else if status.Code(err) != codes.Unavailable {
			e.Err = &shortError{"timed out", err}
		}
	}
	return e
}

// userHint helps if etcd has users and does not know this one.
const userHint = "etcd requires a user: the CN of etcd.certFile must be one (etcdctl user add NAME --no-password)"

// authFailed reports whether etcd does not know who the client is.
func authFailed(err error) bool {
	for _, known := range []error{rpctypes.ErrAuthFailed, rpctypes.ErrAuthNotEnabled, rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded || status.Code(err) == codes.Unavailable
}

func permissionDenied(err error) bool {
	return errors.Is(err, rpctypes.ErrPermissionDenied) || status.Code(err) == codes.PermissionDenied
}

// probeTimeout limits the probe of the endpoints after a failed call.
const probeTimeout = time.Second

// connectError returns why no endpoint can be reached, or nil if one can. The
// error is permanent only if no endpoint can become reachable by itself.
func (c *Client) connectError() error {
	client, done := c.httpClient()
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	reasons := make(chan error, len(c.endpoints))
	for _, endpoint := range c.endpoints {
		go func() { reasons <- c.probe(ctx, client, endpoint) }()
	}
	all := &fault.Error{}
	var texts []string
	for range c.endpoints {
		why := <-reasons
		if why == nil {
			return nil
		}
		texts = append(texts, why.Error())
		if class := fault.ClassOf(why); all.Class == fault.Unclassified || class < all.Class {
			all.Class, all.Kind, all.Advice = class, fault.KindOf(why), fault.Hint(why)
		}
	}
	all.Err = errors.New(strings.Join(texts, "; "))
	return all
}

// notEtcdHint helps if another server answers at an endpoint.
const notEtcdHint = "correct etcd.endpoints: each must be the client URL of an etcd server"

// probe returns why an endpoint cannot be used, or nil if an etcd answers there.
// The error is classified.
func (c *Client) probe(ctx context.Context, client *http.Client, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return configError(errors.New(sanitize(endpoint)+" is not a valid endpoint"), "")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(endpoint, "/")+"/version", nil)
	if err != nil {
		return configError(errors.New(sanitize(endpoint)+" is not a valid endpoint"), "")
	}
	resp, err := client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxVersion))
		if why := notEtcd(u, resp.StatusCode, body); why != "" {
			return fault.WithHint(fault.Transient, fault.Network, errors.New(why), notEtcdHint)
		}
		return nil
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fault.New(fault.Transient, fault.Timeout, errors.New(u.Host+" does not answer"))
	}
	if u.Scheme == "http" && errors.Is(err, io.EOF) { // etcd with TLS (3.4) closes such a connection
		return fault.WithHint(fault.Transient, fault.Network, errors.New(u.Host+" closes the connection without an answer"), "if this etcd uses TLS, write https:// in etcd.endpoints")
	}
	why := c.files.Explain(unwrapNetError(err), time.Now())
	return fault.WithHint(fault.ClassOf(why), fault.KindOf(why), fmt.Errorf("%s: %s", u.Host, sanitize(why.Error())), fault.Hint(why))
}

// maxVersion limits etcd's answer to /version, in bytes. A real one has about
// 50.
const maxVersion = 16 << 10

// notEtcd returns why an answer to /version is not etcd's, or "" if it is.
func notEtcd(u *url.URL, status int, body []byte) string {
	var version struct{ Etcdserver string }
	switch {
	case json.Unmarshal(body, &version) == nil && version.Etcdserver != "":
		return ""
	case status == http.StatusBadRequest && u.Scheme == "http" && strings.Contains(string(body), "HTTPS"):
		return u.Host + " requires https"
	}
	return u.Host + " answers, but is not etcd"
}

// unwrapNetError removes the URL and the address from an error of net/http. The
// caller's message contains them.
func unwrapNetError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return op.Err
	}
	return err
}

// grpcMessage returns a gRPC error with only its message as the text.
func grpcMessage(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return &shortError{sanitize(s.Message()), err}
	}
	return err
}

// shortError replaces the text of an error.
type shortError struct {
	text string
	err  error
}

func (s *shortError) Error() string { return s.text }
func (s *shortError) Unwrap() error { return s.err }

// configError is an error that a person must fix in the configuration, in a file
// that it names, or in etcd's settings.
func configError(err error, advice string) error {
	return fault.WithHint(fault.Permanent, fault.Config, err, advice)
}

// dataError is an error of a value in etcd that cannot be decoded. It stays until
// a person corrects the value.
func dataError(kind, name string, err error) error {
	return fault.WithHint(fault.Permanent, fault.Data, fmt.Errorf("cannot decode %s %s in etcd: %w", kind, name, err),
		"correct or delete this "+kind+" with calicoctl")
}

// sanitize makes text from etcd safe to print.
func sanitize(s string) string { return text.Line(s) }
