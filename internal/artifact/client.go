package artifact

import (
	"context"
	"net/http"

	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/web"
)

// statusError is the error of a response that is not a file.
func statusError(ref Ref, resp *http.Response) error {
	cause := web.NewStatusError(resp)
	e := &Error{Name: ref.Name, Source: redact(ref.URL), Err: cause, Class: cause.FaultClass(), After: cause.RetryAfter()}
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		e.hint = "the server does not have this file: correct the url"
	case http.StatusUnauthorized, http.StatusForbidden:
		e.hint = "add credentials with read access to the url"
	case http.StatusProxyAuthRequired:
		e.hint = "add credentials to proxy.http and proxy.https"
	}
	return e
}

// requestError is the error of a request without a response.
func (s *Store) requestError(ctx context.Context, ref Ref, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return ref.transientError(cause)
	}
	err = fault.OfCall(err)
	return ref.wrap(fault.ClassOf(err), err, "")
}
