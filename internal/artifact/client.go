package artifact

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
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
	e := &Error{Name: ref.Name, Source: redact(ref.URL), Err: cause, Permanent: resp.StatusCode < 500}
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		e.hint = "the server does not have this file: correct the url"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.hint = "add credentials with read access to the url"
	case http.StatusProxyAuthRequired:
		e.hint = "add credentials to proxy.http and proxy.https"
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		e.Permanent = false
	}
	if !e.Permanent {
		e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
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
	permanent, hint := classifyNetworkError(err)
	return ref.wrap(withoutURL(err), permanent, hint)
}

// classifyNetworkError reports whether a retry cannot cure err, and what a
// person can do. An expired certificate counts as transient, because the
// machine's clock may not be set yet.
func classifyNetworkError(err error) (permanent bool, hint string) {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	switch {
	case errors.As(err, &unknown):
		return true, "add the server's CA to the machine's trust store"
	case errors.As(err, &hostname):
		return true, "the server's certificate is for another name: correct the url"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return false, "check the machine's clock and the server's certificate"
	case errors.As(err, &record):
		return true, "the server does not use TLS on this port: try http:// in the url"
	case errors.As(err, &dns) && dns.IsNotFound:
		return false, "check the host name in the url, and DNS"
	}
	return false, ""
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
