package app

import (
	"context"
	"errors"

	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/tunnel"
)

// ServeTunnel serves the tunnel to the etcd of the saved configuration until ctx
// ends. The configuration must have been saved: the sources may have changed
// since the host was configured.
func ServeTunnel(ctx context.Context, o Options, log func(tunnel.Level, string)) error {
	m := &machine{Options: o}
	m.state = m.openHost()
	loaded, err := m.saved()
	switch {
	case err != nil:
		return err
	case loaded == nil:
		return engine.WithHint(errors.New("cannot start the tunnel to etcd: this host has no saved configuration"), "run: firstboot run")
	case !loaded.Config.Etcd.TLS():
		return &ConfigError{engine.WithHint(errors.New("cannot start the tunnel to etcd: etcd.endpoints do not use https"), "systemctl disable --now firstboot-etcd")}
	}
	etcd := loaded.Config.Etcd
	server, err := tunnel.New(tunnel.Options{
		Endpoints: etcd.Endpoints, Username: etcd.Username, Log: log,
		Files:  certificate.Files{CA: etcd.CAFile, Cert: etcd.CertFile, Key: etcd.KeyFile},
		Status: func(line string) { tunnel.Notify("STATUS=" + line) },
	})
	if err != nil {
		return &ConfigError{err}
	}
	listener, err := tunnel.Listen(ctx, log)
	if err != nil {
		return err
	}
	tunnel.Notify("READY=1")
	defer tunnel.Notify("STOPPING=1")
	return server.Serve(ctx, listener)
}
