package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// loginTime bounds a login; it takes a second on an idle machine under
	// TCG, and some more on one that boots.
	loginTime = 60 * time.Second
	// maxOutput bounds what a command on a host may say, in bytes.
	maxOutput = 16 << 20
)

// Result is how a command on a host ended.
type Result struct {
	Stdout, Stderr string
	Code           int // exit status; 128 and more: ended by a signal
}

// Run runs a shell command on the host as root. A command that fails is a
// Result with its code, not an error.
func (h *Host) Run(ctx context.Context, command string) (Result, error) {
	session, err := h.session(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("cannot log in to %s: %w", h.Name, err)
	}
	defer session.Close()
	stdout, stderr := &capped{}, &capped{}
	session.Stdout, session.Stderr = stdout, stderr
	ended := make(chan struct{})
	go func() { err = session.Run(command); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		h.hangUp() // else the command's end would be waited for
		<-ended
		return Result{Stdout: stdout.String(), Stderr: stderr.String()}, fmt.Errorf("%s: %q did not end: %w", h.Name, command, ctx.Err())
	}
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitStatus()
	case err != nil:
		h.hangUp()
		return r, fmt.Errorf("%s: the connection broke during %q: %w", h.Name, command, err)
	}
	return r, nil
}

// Output runs a shell command that has to succeed, and returns what it printed.
func (h *Host) Output(ctx context.Context, command string) (string, error) {
	r, err := h.Run(ctx, command)
	if err != nil {
		return r.Stdout, err
	}
	if r.Code != 0 {
		return r.Stdout, fmt.Errorf("%s: %q ended with %d: %s%s", h.Name, command, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout, nil
}

// session opens a session on the host's connection, which is made anew where
// it broke.
func (h *Host) session(ctx context.Context) (*ssh.Session, error) {
	client, err := h.connect(ctx)
	if err != nil {
		return nil, err
	}
	// A client whose peer lost its power does not notice.
	opened := make(chan error, 1)
	var session *ssh.Session
	go func() {
		var err error
		session, err = client.NewSession()
		opened <- err
	}()
	select {
	case err = <-opened:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(loginTime):
		err = fmt.Errorf("no answer in %s", loginTime)
	}
	if err != nil {
		h.hangUp()
		return nil, err
	}
	return session, nil
}

func (h *Host) connect(ctx context.Context) (*ssh.Client, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil {
		return h.client, nil
	}
	config, err := h.sshConfig()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	address := net.JoinHostPort(h.Address.String(), "22")
	conn, err := h.lab.Net.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	inner, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	h.client = ssh.NewClient(inner, channels, requests)
	return h.client, nil
}

func (h *Host) sshConfig() (*ssh.ClientConfig, error) {
	private, err := os.ReadFile(h.lab.keyPath)
	if err != nil {
		return nil, fmt.Errorf("cannot read the lab's key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("cannot read the lab's key: %w", err)
	}
	return &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: h.checkHostKey}, nil
}

// checkHostKey keeps the key that the host made at its first boot. The lock is
// held by connect.
func (h *Host) checkHostKey(_ string, _ net.Addr, key ssh.PublicKey) error {
	if h.known == nil {
		h.known = key
	}
	if !bytes.Equal(h.known.Marshal(), key.Marshal()) {
		return fmt.Errorf("%s has another host key than before", h.Name)
	}
	return nil
}

// hangUp closes the host's connection, if there is one.
func (h *Host) hangUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil {
		_ = h.client.Close()
		h.client = nil
	}
}

// capped keeps the start of what is written, and takes the rest in silence.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	if room := maxOutput - c.Len(); room > 0 {
		c.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
