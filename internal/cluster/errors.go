package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is why etcd could not be asked.
type Error struct {
	Action    string   // "reach", "read IPPool x from"
	Endpoints []string // which etcd
	Err       error    // what was seen
	Permanent bool     // time does not cure it: a wrong password
	Advice    string   // what a person can do; may be empty
}

func (e *Error) Error() string {
	return fmt.Sprintf("cannot %s etcd at %s: %v", e.Action, strings.Join(e.Endpoints, ", "), e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Hint says what a person can do; it may be empty.
func (e *Error) Hint() string { return e.Advice }

// IsPermanent tells whether err is not cured by time: etcd refuses this user.
func IsPermanent(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Permanent
}

// fail makes an Error. Why etcd cannot be reached the client does not tell
// where the deadline came first, so the endpoints are tried.
func (c *Client) fail(doing string, err error) error {
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	e := &Error{Action: doing, Endpoints: c.endpoints, Err: short(err)}
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed), errors.Is(err, rpctypes.ErrAuthNotEnabled), errors.Is(err, rpctypes.ErrUserEmpty):
		e.Permanent, e.Advice = true, "correct etcd.username and etcd.passwordFile"
	case mayNotRead(err):
		e.Permanent, e.Advice = true, "grant the etcd user read and write for /calico/ and "+prefix
	case errors.Is(err, rpctypes.ErrNoSpace):
		e.Advice = "etcd's disk quota is used up: compact and defragment it, then etcdctl alarm disarm"
	case timedOut(err):
		if why := c.unreachable(); why != "" {
			e.Err = &brief{why, err}
		} else if status.Code(err) != codes.Unavailable {
			e.Err = &brief{"no answer in time", err}
		}
	}
	return e
}

func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded || status.Code(err) == codes.Unavailable
}

func mayNotRead(err error) bool {
	return errors.Is(err, rpctypes.ErrPermissionDenied) || status.Code(err) == codes.PermissionDenied
}

// probeTime bounds the look at the endpoints after a call failed.
const probeTime = time.Second

// unreachable says why no endpoint can be talked to; empty if one can.
func (c *Client) unreachable() string {
	client, done := c.httpClient()
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	reasons := make(chan string, len(c.endpoints))
	for _, endpoint := range c.endpoints {
		go func() { reasons <- probe(ctx, client, endpoint) }()
	}
	var all []string
	for range c.endpoints {
		why := <-reasons
		if why == "" {
			return ""
		}
		all = append(all, why)
	}
	return strings.Join(all, "; ")
}

// probe says why an endpoint cannot be talked to; empty if it can, whatever it
// answers.
func probe(ctx context.Context, client *http.Client, endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return clean(endpoint) + " is no endpoint"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/version", nil)
	if err != nil {
		return clean(endpoint) + " is no endpoint"
	}
	resp, err := client.Do(req)
	if err == nil {
		resp.Body.Close()
		return ""
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return u.Host + " does not answer"
	}
	return fmt.Sprintf("%s: %v", u.Host, withoutFrame(err))
}

// withoutFrame takes the URL, and the address that is named anyway, out of an
// error of net/http.
func withoutFrame(err error) error {
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

// short is what an error of gRPC says, without the frame around it.
func short(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return &brief{clean(s.Message()), err}
	}
	return err
}

type brief struct {
	text string
	err  error
}

func (b *brief) Error() string { return b.text }
func (b *brief) Unwrap() error { return b.err }

// hint carries what a person can do about an error.
type hint struct {
	error
	advice string
}

func (h *hint) Unwrap() error { return h.error }

// Hint says what a person can do.
func (h *hint) Hint() string { return h.advice }

func hinted(err error, advice string) error { return &hint{err, advice} }

// clean makes a foreign text fit to be printed: one line, bounded, without
// control characters, escapes and marks that turn the direction of text.
func clean(s string) string {
	const most = 300
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
