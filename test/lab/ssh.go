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
	// loginTimeout limits a login. It takes a second on an idle machine under
	// TCG, and longer during a boot.
	loginTimeout = 60 * time.Second
	// maxOutput limits the output of a command that is kept, in bytes.
	maxOutput = 16 << 20
)

// Result is the result of a command on a host.
type Result struct {
	Stdout, Stderr string
	Code           int // exit status; 128 or more: killed by a signal
}

// Run runs a shell command on the host as root. If the command fails, its code is
// in the Result and the error is nil.
func (h *Host) Run(ctx context.Context, command string) (Result, error) {
	session, err := h.session(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("cannot log in to %s: %w", h.Name, err)
	}
	defer session.Close()
	stdout, stderr := &limitedBuffer{}, &limitedBuffer{}
	session.Stdout, session.Stderr = stdout, stderr
	done := make(chan struct{})
	go func() { err = session.Run(command); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		h.disconnect() // otherwise session.Run waits for the command
		<-done
		return Result{Stdout: stdout.String(), Stderr: stderr.String()}, fmt.Errorf("%s: %q did not finish: %w", h.Name, command, ctx.Err())
	}
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitStatus()
	case err != nil:
		h.disconnect()
		return r, fmt.Errorf("%s: the connection was lost during %q: %w", h.Name, command, err)
	}
	return r, nil
}

// Output runs a shell command and returns its stdout. It is an error if the command fails.
func (h *Host) Output(ctx context.Context, command string) (string, error) {
	r, err := h.Run(ctx, command)
	if err != nil {
		return r.Stdout, err
	}
	if r.Code != 0 {
		return r.Stdout, fmt.Errorf("%s: %q exited with %d: %s%s", h.Name, command, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout, nil
}

// session opens a session on the host's connection. It reconnects if needed.
func (h *Host) session(ctx context.Context) (*ssh.Session, error) {
	client, err := h.connect(ctx)
	if err != nil {
		return nil, err
	}
	// The client does not notice that its peer has lost power.
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
	case <-time.After(loginTimeout):
		err = fmt.Errorf("timed out after %s", loginTimeout)
	}
	if err != nil {
		h.disconnect()
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
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	address := net.JoinHostPort(h.Address.String(), "22")
	conn, err := h.lab.Net.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
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

// checkHostKey stores the host key of the first connection and compares later
// ones with it. connect holds h.mu.
func (h *Host) checkHostKey(_ string, _ net.Addr, key ssh.PublicKey) error {
	if h.known == nil {
		h.known = key
	}
	if !bytes.Equal(h.known.Marshal(), key.Marshal()) {
		return fmt.Errorf("the SSH host key of %s has changed", h.Name)
	}
	return nil
}

// disconnect closes the SSH connection if there is one.
func (h *Host) disconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil {
		_ = h.client.Close()
		h.client = nil
	}
}

// limitedBuffer keeps the first maxOutput bytes and discards the rest.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if free := maxOutput - b.Len(); free > 0 {
		b.Buffer.Write(p[:min(free, len(p))])
	}
	return len(p), nil
}
