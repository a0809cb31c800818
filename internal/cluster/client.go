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
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/projecteru2/firstboot/internal/fault"
)

const (
	// DefaultTimeout limits one call.
	DefaultTimeout = 10 * time.Second
	// maxMessage limits a response, in bytes. etcd refuses values above 1.5 MiB,
	// and lists are read in pages.
	maxMessage = 16 << 20
	// maxCertificate limits a PEM file, in bytes.
	maxCertificate = 1 << 20
)

// Options configure a Client.
type Options struct {
	Endpoints []string // scheme://host:port each, at least one
	CAFile    string   // PEM; empty: the system's CAs
	CertFile  string   // PEM; with KeyFile, for an etcd that requires client certificates
	KeyFile   string
	Username  string
	Password  string
	Timeout   time.Duration // of one call; 0: DefaultTimeout
}

// Client is a connection to etcd. It is safe for concurrent use.
type Client struct {
	etcd      *clientv3.Client
	endpoints []string
	tls       *tls.Config
	timeout   time.Duration
}

// Dial returns a new Client. With a Username it requests a token from etcd;
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
	c := &Client{endpoints: o.Endpoints, tls: tlsConfig, timeout: o.Timeout}
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
			if why := c.connectError(); why != "" {
				abort(&Error{
					Action: "reach", Endpoints: c.endpoints, Err: errors.New(why), Class: fault.Transient, Kind: fault.Network, Advice: adviceFor(why),
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

func (o Options) tlsConfig() (*tls.Config, error) {
	if o.CAFile == "" && o.CertFile == "" && o.KeyFile == "" {
		return nil, nil // the etcd client uses its default for https endpoints
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := readCertificate(o.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, configError(fmt.Errorf("cannot use etcd.caFile %s: it contains no certificate", o.CAFile), "the file must be PEM")
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, configError(errors.New("cannot use a client certificate for etcd without its key"), "set both etcd.certFile and etcd.keyFile")
	}
	if o.CertFile != "" {
		pair, err := loadPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func loadPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := readCertificate(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readCertificate(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return pair, configError(fmt.Errorf("cannot use etcd.certFile %s with etcd.keyFile %s: %w", certFile, keyFile, err), "check that they belong together and that both are PEM")
	}
	return pair, nil
}

func readCertificate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, configError(fmt.Errorf("cannot read a certificate for etcd: %w", err), "")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCertificate+1))
	if err == nil && len(data) > maxCertificate {
		err = fmt.Errorf("larger than %d bytes", maxCertificate)
	}
	if err != nil {
		return nil, configError(fmt.Errorf("cannot read a certificate for etcd from %s: %w", path, err), "")
	}
	return data, nil
}
