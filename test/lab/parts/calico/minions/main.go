// Command eru-minions is the lab's stand-in for the Docker plugin of that name,
// which cannot be downloaded as a Go module. It uses Calico's real libraries
// and has the plugin's unit, environment, flags, sockets and faults. Its
// behaviour was measured on the real plugin. A comment that refers to "the
// real plugin" marks a fault that is reproduced on purpose.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/projectcalico/calico/libcalico-go/lib/apiconfig"
	"github.com/projectcalico/calico/libcalico-go/lib/clientv3"
	"github.com/sirupsen/logrus"
	etcd "go.etcd.io/etcd/client/v3"
)

// version is set by the linker.
var version = "unknown"

const (
	// etcdTimeout limits the wait for etcd at startup. After it, the plugin
	// exits and systemd starts it again.
	etcdTimeout = 10 * time.Second
	// callTimeout limits one call by Docker. Docker itself waits 30 s.
	callTimeout = 25 * time.Second
)

func main() {
	cnm := flag.String("cnm", getenv("CALICO_CNM", "calico"), "name of the network driver")
	ipamName := flag.String("ipam", getenv("CALICO_IPAM", "calico-ipam"), "name of the IPAM driver")
	debug := flag.Bool("debug", os.Getenv("CALICO_DEBUG") == "true", "also log Calico's client")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println("eru-minions", version, "(the lab's stand-in)")
		return
	}
	log.SetFlags(0)
	logrus.SetLevel(logrus.WarnLevel)
	if *debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	if err := serve(*cnm, *ipamName); err != nil {
		log.Fatalf("cannot serve Docker: %v", err)
	}
}

func getenv(key, defaultValue string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return defaultValue
}

// serve answers Docker's calls until one of the two sockets fails. It creates
// the sockets after etcd has answered. Like those of the real plugin, they are
// not removed when the process is killed.
func serve(cnm, ipamName string) error {
	clients, err := connect()
	if err != nil {
		return err
	}
	driver, err := newNetworkDriver(clients)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- network.NewHandler(driver).ServeUnix(cnm, 0) }()
	go func() { failed <- ipam.NewHandler(ipamDriver{clients}).ServeUnix(ipamName, 0) }()
	log.Printf("serving %s and %s with etcd at %s", cnm, ipamName, strings.Join(clients.raw.Endpoints(), " "))
	return <-failed
}

// etcdClients are two clients of the same etcd: Calico's client, and a plain
// one that rewrites pools. Like that of the real plugin, the plain one uses
// neither TLS nor a user.
type etcdClients struct {
	calico clientv3.Interface
	raw    *etcd.Client
}

// connect reads its configuration from the environment only, not from
// calicoctl.cfg.
func connect() (etcdClients, error) {
	config, err := apiconfig.LoadClientConfigFromEnvironment()
	if err != nil {
		return etcdClients{}, err
	}
	endpoints := config.Spec.EtcdEndpoints
	if endpoints == "" {
		return etcdClients{}, errors.New("ETCD_ENDPOINTS is not set (/etc/eru/minions.conf)")
	}
	config.Spec.DatastoreType = apiconfig.EtcdV3
	raw, err := etcd.New(etcd.Config{Endpoints: strings.Split(endpoints, ","), DialTimeout: etcdTimeout})
	if err != nil {
		return etcdClients{}, fmt.Errorf("cannot connect to etcd at %s: %w", endpoints, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), etcdTimeout)
	defer cancel()
	if _, err := raw.Get(ctx, "/calico", etcd.WithCountOnly()); err != nil {
		return etcdClients{}, fmt.Errorf("cannot connect to etcd at %s: %w", endpoints, err)
	}
	calico, err := clientv3.New(*config)
	if err != nil {
		return etcdClients{}, fmt.Errorf("cannot connect to etcd at %s: %w", endpoints, err)
	}
	return etcdClients{calico: calico, raw: raw}, nil
}

// hostname returns the host name without changing its case, like the real
// plugin. An upper-case name therefore differs from the node name, which
// calicoctl converts to lower case. HOSTNAME in the environment has precedence.
func hostname() (string, error) {
	if name := os.Getenv("HOSTNAME"); name != "" {
		return name, nil
	}
	return os.Hostname()
}

func callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTimeout)
}
