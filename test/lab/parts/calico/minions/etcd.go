package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/projectcalico/calico/libcalico-go/lib/apiconfig"
	"github.com/projectcalico/calico/libcalico-go/lib/clientv3"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	etcd "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

const (
	// etcdTimeout limits the wait for etcd at startup. After it, the plugin
	// exits and systemd starts it again.
	etcdTimeout = 10 * time.Second
	// callTimeout limits one call by Docker. Docker itself waits 30 s.
	callTimeout = 25 * time.Second
)

// etcdClients are clients of the same etcd.
type etcdClients struct {
	calico clientv3.Interface
	pools  *etcd.Client // rewrites pools, with the same TLS files and user as calico
	barrel barrel
}

// connect reads its configuration from the environment only, not from
// calicoctl.cfg. Like the real plugin, it waits until both clients have a
// connection, but sends no request: which keys it may use is not known yet.
func connect() (etcdClients, error) {
	config, err := apiconfig.LoadClientConfigFromEnvironment()
	if err != nil {
		return etcdClients{}, err
	}
	if config.Spec.EtcdEndpoints == "" {
		return etcdClients{}, errors.New("ETCD_ENDPOINTS is not set (/etc/eru/minions.conf)")
	}
	config.Spec.DatastoreType = apiconfig.EtcdV3
	secured, err := securedConfig(config.Spec.EtcdConfig)
	if err != nil {
		return etcdClients{}, err
	}
	var c etcdClients
	if c.pools, err = dial(secured); err != nil {
		return etcdClients{}, err
	}
	if c.calico, err = clientv3.New(*config); err != nil {
		return etcdClients{}, cannotConnect(secured, err)
	}
	// Like the real plugin's, this client uses neither the TLS files nor the user.
	if c.barrel.client, err = dial(plainConfig(config.Spec.EtcdConfig)); err != nil {
		return etcdClients{}, err
	}
	return c, nil
}

func plainConfig(c apiconfig.EtcdConfig) etcd.Config {
	return etcd.Config{Endpoints: strings.Split(c.EtcdEndpoints, ",")}
}

func securedConfig(c apiconfig.EtcdConfig) (etcd.Config, error) {
	config := plainConfig(c)
	config.Username, config.Password = c.EtcdUsername, c.EtcdPassword
	if c.EtcdCACertFile == "" && c.EtcdCertFile == "" {
		return config, nil
	}
	files := transport.TLSInfo{TrustedCAFile: c.EtcdCACertFile, CertFile: c.EtcdCertFile, KeyFile: c.EtcdKeyFile}
	var err error
	config.TLS, err = files.ClientConfig()
	return config, err
}

// dial waits until the client has a connection.
func dial(config etcd.Config) (*etcd.Client, error) {
	config.DialTimeout = etcdTimeout
	config.DialOptions = []grpc.DialOption{grpc.WithBlock()}
	client, err := etcd.New(config)
	if err != nil {
		return nil, cannotConnect(config, err)
	}
	return client, nil
}

func cannotConnect(config etcd.Config, err error) error {
	return fmt.Errorf("cannot connect to etcd at %s: %w", strings.Join(config.Endpoints, ","), err)
}

func callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTimeout)
}
