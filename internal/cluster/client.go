// Package cluster accesses the cluster's etcd. It reads Calico's resources,
// provides locks and semaphores for cluster-wide work, and keeps the hosts'
// records. It never writes Calico's resources: calicoctl does that, because it
// validates them.
//
// Every call has a deadline, because the etcd client waits forever if etcd is
// not available. Values from etcd are not trusted: their size is limited, and
// they are validated and made safe to print.
package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/internal/fault"
)

const (
	// DefaultTimeout limits one call.
	DefaultTimeout = 10 * time.Second
	// maxMessage limits a response, in bytes. etcd refuses values above 1.5 MiB,
	// and lists are read in pages.
	maxMessage = 16 << 20
)

// Options configure a Client.
type Options struct {
	Endpoints []string // scheme://host:port each, at least one
	CAFile    string   // PEM; empty: the system's CAs
	CertFile  string   // PEM; with KeyFile, for an etcd that requires client certificates
	KeyFile   string
	Username  string // without a Password it must be the CN of CertFile
	Password  string
	Timeout   time.Duration // of one call; 0: DefaultTimeout
}

// Client is a connection to etcd. It is safe for concurrent use.
type Client struct {
	etcd      *clientv3.Client
	endpoints []string
	files     certificate.Files
	tls       *tls.Config
	timeout   time.Duration
}

// Dial returns a new Client. With a Password it requests a token from etcd;
// otherwise nothing is sent until the first call. The caller must close it.
func Dial(o Options) (*Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, configError(errors.New("cannot reach etcd: no endpoint is given"), "set etcd.endpoints")
	}
	tlsConfig, err := o.tlsConfig()
	if err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	c := &Client{endpoints: o.Endpoints, files: o.files(), tls: tlsConfig, timeout: o.Timeout}
	c.etcd, err = clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints, TLS: tlsConfig, Username: o.Username, Password: o.Password,
		// A proxy of the environment is for downloads. It cannot reach etcd.
		DialOptions: []grpc.DialOption{grpc.WithNoProxy()},
		DialTimeout: o.Timeout, MaxCallRecvMsgSize: maxMessage, Logger: zap.NewNop(),
		// These detect an etcd that has disappeared without closing connections.
		DialKeepAliveTime: o.Timeout, DialKeepAliveTimeout: o.Timeout,
	})
	if err != nil {
		return nil, c.wrapError("reach", err)
	}
	return c, nil
}

// Close closes the connection. Locks that are still held expire with their
// leases.
func (c *Client) Close() error {
	err := c.etcd.Close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Ping checks that etcd serves its v3 API and has a quorum. If no endpoint accepts
// a connection, Ping fails immediately; the etcd client itself would retry until
// the deadline.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	go c.watchConnection(ctx, abort)
	_, err := c.etcd.Get(ctx, prefix+"ping", clientv3.WithCountOnly())
	if err == nil || permissionDenied(err) {
		return nil // etcd answers; the user's permissions do not matter here
	}
	var refused *Error
	if errors.As(context.Cause(ctx), &refused) {
		return refused
	}
	return c.wrapError("reach", err)
}

// watchConnection calls abort with an error as soon as every endpoint has
// failed. gRPC reports TransientFailure only then, not while it is still
// connecting to one of them.
func (c *Client) watchConnection(ctx context.Context, abort context.CancelCauseFunc) {
	conn := c.etcd.ActiveConnection()
	for {
		state := conn.GetState()
		if state == connectivity.TransientFailure {
			if why := c.connectError(); why != nil {
				abort(&Error{
					Action: "reach", Endpoints: c.endpoints, Err: why, Class: fault.ClassOf(why), Kind: fault.KindOf(why), Advice: fault.Hint(why),
				})
				return
			}
		}
		if !conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// withTimeout returns a context with the deadline of one call.
func (c *Client) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout)
}

func (o Options) files() certificate.Files {
	return certificate.Files{CA: o.CAFile, Cert: o.CertFile, Key: o.KeyFile}
}

// tlsConfig returns nil if no file is set; the etcd client then uses its default
// for https endpoints.
func (o Options) tlsConfig() (*tls.Config, error) {
	if o.Username != "" && o.Password == "" {
		if err := o.files().CheckUser(o.Username); err != nil {
			return nil, err
		}
	}
	if o.files() == (certificate.Files{}) {
		return nil, nil
	}
	return o.files().Config()
}
