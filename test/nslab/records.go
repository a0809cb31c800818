package nslab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// files returns the host's files. It works while the host runs.
func (h *Host) files() *host.Host { return host.New(h.root()) }

// machine returns the host as firstboot's code sees it: its files and sockets, and
// commands that run on it.
func (h *Host) machine() *host.Host { return host.New(h.root(), host.WithExecutor(executor{h})) }

// executor runs commands on a host.
type executor struct{ *Host }

func (e executor) Run(ctx context.Context, c host.Command) (host.Output, error) {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cmd := e.command(limited, append(append([]string{"env"}, c.Env...), append([]string{c.Name}, c.Args...)...)...)
	var out, messages bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), &out, &messages
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", e.Name, c, err, messages.String())
	}
	return host.Output{Stdout: out.Bytes(), Stderr: messages.Bytes()}, err
}

// root returns the path of the host's root directory on this machine.
func (h *Host) root() string { return fmt.Sprintf("/proc/%d/root", h.init.PID) }

// writeRecords writes the records of a complete run: the configuration and the
// completion marker. The tunnel and wait-plugin need them. Without systemd there
// can be no run.
func (h *Host) writeRecords(ctx context.Context) error {
	if err := h.Write(ctx, "/etc/machine-id", fmt.Sprintf("%031x%x\n", h.lab.serial, h.index), 0o444); err != nil {
		return err
	}
	if err := h.Write(ctx, "/etc/firstboot/config.yaml", h.configuration(), 0o600); err != nil {
		return err
	}
	loaded, err := config.Load(ctx, config.Options{Root: h.root()})
	if err != nil {
		return fmt.Errorf("cannot load the configuration of %s: %w", h.Name, err)
	}
	h.config = loaded.Config
	var effective bytes.Buffer
	if err := loaded.Save(&effective); err != nil {
		return err
	}
	now := time.Now()
	marker, err := json.Marshal(state.Marker{
		Schema: state.Schema, Version: "lab", ConfigDigest: loaded.Digest, Machine: state.ThisMachine(h.files()),
		Started: now, Finished: now,
	})
	if err != nil {
		return err
	}
	if err := h.Write(ctx, state.EffectivePath, effective.String(), 0o600); err != nil {
		return err
	}
	return h.Write(ctx, state.MarkerPath, string(marker), 0o600)
}

// configuration returns the host's configuration.
func (h *Host) configuration() string {
	text := fmt.Sprintf("etcd:\n  endpoints: [%s]\n", h.lab.Etcd.Endpoint)
	if h.lab.tls() {
		files := h.lab.hostCerts()
		text += fmt.Sprintf("  caFile: %s\n  certFile: %s\n  keyFile: %s\n", files.CA, files.Cert, files.Key)
	}
	scope := "local"
	if h.global {
		scope = "global"
	}
	return text + fmt.Sprintf("docker:\n  network: %s\npool:\n  name: %s\n  cidr: %s\nnode:\n  image: %s\n", scope, Network, Pool, h.lab.programs.nodeImage)
}
