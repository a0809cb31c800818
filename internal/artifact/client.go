package artifact

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/projecteru2/firstboot/internal/fault"
)

// maxRedirects bounds the redirects of one request.
const maxRedirects = 10

// ProxyFunc returns a function for Options.Proxy that uses fixed proxies.
// noProxy lists hosts that are reached directly, as in NO_PROXY. If all are
// empty, it uses the environment's proxies.
func ProxyFunc(httpProxy, httpsProxy, noProxy string) func(*http.Request) (*url.URL, error) {
	if httpProxy == "" && httpsProxy == "" && noProxy == "" {
		return http.ProxyFromEnvironment
	}
	choose := (&httpproxy.Config{HTTPProxy: httpProxy, HTTPSProxy: httpsProxy, NoProxy: noProxy}).ProxyFunc()
	return func(r *http.Request) (*url.URL, error) {
		u, err := choose(r.URL)
		if err != nil {
			return nil, errors.New("cannot parse the proxy's url")
		}
		return u, nil
	}
}

func newClient(given *http.Client, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	client := &http.Client{}
	if given != nil {
		copied := *given
		client = &copied
	} else {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableCompression = true
		if proxy != nil {
			t.Proxy = proxy
		}
		client.Transport = t
	}
	client.CheckRedirect = func(next *http.Request, before []*http.Request) error {
		if len(before) > maxRedirects {
			return invalidf("check the url", "redirected more than %d times", maxRedirects)
		}
		// It would show the next server the query of the previous URL, which
		// may contain a signature.
		next.Header.Del("Referer")
		return nil
	}
	return client
}

// statusError is the error of a response that is not a file.
func statusError(ref Ref, resp *http.Response) error {
	cause := fmt.Errorf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	e := &Error{Name: ref.Name, Source: redact(ref.URL), Err: cause}
	e.Class, e.Kind = fault.OfStatus(resp.StatusCode)
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		e.hint = "the server does not have this file: correct the url"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.hint = "add credentials with read access to the url"
	case http.StatusProxyAuthRequired:
		e.hint = "add credentials to proxy.http and proxy.https"
	}
	if e.Class != fault.Permanent {
		e.After = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return e
}

// requestError is the error of a request without a response.
func (s *Store) requestError(ctx context.Context, ref Ref, err error) error {
	var invalid *invalidError
	if errors.As(err, &invalid) {
		return ref.permanentError(invalid, invalid.hint)
	}
	if cause := context.Cause(ctx); cause != nil {
		return ref.transientError(cause, "")
	}
	err = fault.OfCall(withoutURL(err))
	return ref.wrap(fault.ClassOf(err), err, "")
}

// withoutURL removes the URL from an error of net/http. The URL may contain a
// secret, and the message names the source anyway.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if strings.Contains(err.Error(), "Location header") {
		return errors.New("the server redirects to an invalid url")
	}
	return err
}
