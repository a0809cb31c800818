// Package cluster talks to the cluster's etcd: it reads what Calico keeps
// there, holds the locks by which hosts do cluster-wide work once, and keeps
// the hosts' records. It never writes what is Calico's: that is calicoctl's,
// whose validation is the authority.
//
// Every call has a deadline of its own, because the etcd client waits for ever
// for an etcd that is not there. What comes out of etcd was written by others:
// it is bounded, checked, and made fit to be printed.
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
	"google.golang.org/grpc/connectivity"
)

const (
	// DefaultTimeout bounds one call.
	DefaultTimeout = 10 * time.Second
	// maxMessage bounds an answer, in bytes. etcd refuses requests above
	// 1.5 MiB, and lists are read in pages.
	maxMessage = 16 << 20
	// maxCertificate bounds a PEM file, in bytes.
	maxCertificate = 1 << 20
)

// Options are how etcd is reached.
type Options struct {
	Endpoints []string // scheme://host:port each, at least one
	CAFile    string   // PEM; empty: the machine's CAs
	CertFile  string   // PEM; with KeyFile, for etcds that ask for it
	KeyFile   string
	Username  string
	Password  string
	Timeout   time.Duration // of one call; 0: DefaultTimeout
}

// Client is a connection to etcd. It may be used by several goroutines at
// once.
type Client struct {
	etcd      *clientv3.Client
	endpoints []string
	tls       *tls.Config
	timeout   time.Duration
}

// Dial makes a Client. With a user it asks etcd for a token; otherwise nothing
// is sent until the first call. The caller closes it.
func Dial(o Options) (*Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, hinted(errors.New("cannot reach etcd: no endpoint is given"), "set etcd.endpoints")
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
		DialTimeout: o.Timeout, MaxCallRecvMsgSize: maxMessage, Logger: zap.NewNop(),
		// An etcd that vanished without a word is noticed by these.
		DialKeepAliveTime: o.Timeout, DialKeepAliveTimeout: o.Timeout,
	})
	if err != nil {
		return nil, c.fail("reach", err)
	}
	return c, nil
}

// Close ends the connection. Locks that are still held lapse with their
// leases.
func (c *Client) Close() error {
	err := c.etcd.Close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Ping asks whether etcd serves its v3 API, by a read that a majority of its
// members must agree to. Where no endpoint takes a connection it says so at
// once: the etcd client itself would try again until the time is up.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go c.watch(ctx, giveUp)
	_, err := c.etcd.Get(ctx, prefix+"ping", clientv3.WithCountOnly())
	if err == nil || mayNotRead(err) {
		return nil // it answers: what this user may read is another question
	}
	var refused *Error
	if errors.As(context.Cause(ctx), &refused) {
		return refused
	}
	return c.fail("reach", err)
}

// watch gives up as soon as every endpoint has failed, and says how; gRPC
// calls the connection so only then, not while one is still tried.
func (c *Client) watch(ctx context.Context, giveUp context.CancelCauseFunc) {
	conn := c.etcd.ActiveConnection()
	for {
		state := conn.GetState()
		if state == connectivity.TransientFailure {
			if why := c.unreachable(); why != "" {
				giveUp(&Error{Action: "reach", Endpoints: c.endpoints, Err: errors.New(why)})
				return
			}
		}
		if !conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// bounded gives one call its deadline.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.timeout)
}

func (o Options) tlsConfig() (*tls.Config, error) {
	if o.CAFile == "" && o.CertFile == "" && o.KeyFile == "" {
		return nil, nil // the client makes one for https endpoints
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := readCertificate(o.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, hinted(fmt.Errorf("cannot use etcd.caFile %s: it holds no certificate", o.CAFile), "it must be PEM")
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, hinted(errors.New("cannot use a client certificate for etcd without its key"), "set both etcd.certFile and etcd.keyFile")
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
		return pair, hinted(fmt.Errorf("cannot use etcd.certFile %s with etcd.keyFile %s: %w", certFile, keyFile, err), "do they belong together, and are both PEM?")
	}
	return pair, nil
}

func readCertificate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read a certificate for etcd: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCertificate+1))
	if err == nil && len(data) > maxCertificate {
		err = fmt.Errorf("more than %d bytes", maxCertificate)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read a certificate for etcd from %s: %w", path, err)
	}
	return data, nil
}
