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
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// maxRedirects is what curl and browsers never need in a working set-up.
const maxRedirects = 10

// ProxyFunc is Options.Proxy for fixed proxies; no lists hosts that are reached
// without one, as in NO_PROXY. All empty: the environment's.
func ProxyFunc(httpProxy, httpsProxy, no string) func(*http.Request) (*url.URL, error) {
	if httpProxy == "" && httpsProxy == "" && no == "" {
		return http.ProxyFromEnvironment
	}
	choose := (&httpproxy.Config{HTTPProxy: httpProxy, HTTPSProxy: httpsProxy, NoProxy: no}).ProxyFunc()
	return func(r *http.Request) (*url.URL, error) {
		u, err := choose(r.URL)
		if err != nil {
			return nil, errors.New("the proxy's url cannot be understood")
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
			return refuse("is the url right?", "it is redirected more than %d times", maxRedirects)
		}
		// It would show the next server the query of the one before, which
		// may be a signature.
		next.Header.Del("Referer")
		return nil
	}
	return client
}

// statusError says what an answer means that is no file.
func statusError(ref Ref, resp *http.Response) error {
	seen := fmt.Errorf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	e := &Error{Name: ref.Name, Source: redact(ref.URL), Err: seen, Permanent: resp.StatusCode < 500}
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		e.Advice = "there is no such file on the server: correct the url"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Advice = "give the url credentials that may read it"
	case http.StatusProxyAuthRequired:
		e.Advice = "give proxy.http and proxy.https credentials"
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		e.Permanent = false
	}
	if !e.Permanent {
		e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return e
}

// longestRetryAfter is what a server's wish to be left alone counts at most.
const longestRetryAfter = 5 * time.Minute

func retryAfter(header string, now time.Time) time.Duration {
	var after time.Duration
	if seconds, err := strconv.Atoi(header); err == nil {
		after = time.Duration(min(seconds, int(longestRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		after = at.Sub(now)
	}
	return min(max(after, 0), longestRetryAfter)
}

// netError says why there was no answer at all, and whether there may be one.
func (s *Store) netError(ctx context.Context, ref Ref, err error) error {
	var already *refusal
	if errors.As(err, &already) {
		return ref.fail(already, true, already.advice)
	}
	if cause := context.Cause(ctx); cause != nil {
		return ref.fail(cause, false, "")
	}
	permanent, advice := judge(err)
	return ref.fail(plainNet(err), permanent, advice)
}

// judge tells what time cannot cure. A certificate that is not yet, or no
// longer, valid can be a clock that is not set yet.
func judge(err error) (permanent bool, advice string) {
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
		return false, "is the machine's clock right?"
	case errors.As(err, &record):
		return true, "the server does not speak TLS there: should the url begin with http://?"
	case errors.As(err, &dns) && dns.IsNotFound:
		return false, "is the host name in the url right, and does DNS know it?"
	}
	return false, ""
}

// plainNet takes the URL out of an error of net/http: it may hold a token, and
// the source is named anyway.
func plainNet(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if strings.Contains(err.Error(), "Location header") {
		return errors.New("the server redirects to what is no url")
	}
	return err
}
