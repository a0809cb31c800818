package web

import (
	"errors"
	"net/http"
	"net/url"

	"golang.org/x/net/http/httpproxy"
)

// Proxy returns a function for Options.Proxy that uses fixed proxies. noProxy
// lists hosts that are reached directly, as in NO_PROXY. If all are empty, it
// uses the environment's proxies.
func Proxy(httpProxy, httpsProxy, noProxy string) func(*http.Request) (*url.URL, error) {
	from := &httpproxy.Config{HTTPProxy: httpProxy, HTTPSProxy: httpsProxy, NoProxy: noProxy}
	if httpProxy == "" && httpsProxy == "" && noProxy == "" {
		from = httpproxy.FromEnvironment()
	}
	choose := from.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) {
		u, err := choose(r.URL)
		if err != nil {
			return nil, errors.New("cannot parse the proxy's url") // it may contain a password
		}
		return u, nil
	}
}
