// Command eru-minions stands in for the Docker plugin of that name, which the
// lab cannot have: the same unit, environment, flags, sockets and traps, on
// Calico's real libraries. What it must behave like was measured on the real
// one; where a comment says "as the real one", a trap is kept on purpose.
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
	// etcdTime is how long an etcd may stay silent at the start; then the
	// plugin ends, and systemd starts it again.
	etcdTime = 10 * time.Second
	// callTime bounds one call by Docker, which waits for 30 s itself.
	callTime = 25 * time.Second
)

func main() {
	cnm := flag.String("cnm", fromEnvironment("CALICO_CNM", "calico"), "name of the network driver")
	ipamName := flag.String("ipam", fromEnvironment("CALICO_IPAM", "calico-ipam"), "name of the IPAM driver")
	debug := flag.Bool("debug", os.Getenv("CALICO_DEBUG") == "true", "log Calico's client too")
	showVersion := flag.Bool("version", false, "print the version and end")
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

func fromEnvironment(key, otherwise string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return otherwise
}

// serve answers Docker until one of the two sockets fails. The sockets are
// made after etcd has answered, and stay behind when the process is killed, as
// the real one's do.
func serve(cnm, ipamName string) error {
	stores, err := connect()
	if err != nil {
		return err
	}
	driver, err := newNetworkDriver(stores)
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- network.NewHandler(driver).ServeUnix(cnm, 0) }()
	go func() { ended <- ipam.NewHandler(ipamDriver{stores}).ServeUnix(ipamName, 0) }()
	log.Printf("serving %s and %s with etcd at %s", cnm, ipamName, strings.Join(stores.raw.Endpoints(), " "))
	return <-ended
}

// stores are the two clients of one etcd: Calico's own for what it models, and
// one without TLS or user, as the real one's, which rewrites pools.
type stores struct {
	calico clientv3.Interface
	raw    *etcd.Client
}

// connect takes everything from the environment; calicoctl.cfg is not read.
func connect() (stores, error) {
	config, err := apiconfig.LoadClientConfigFromEnvironment()
	if err != nil {
		return stores{}, err
	}
	endpoints := config.Spec.EtcdEndpoints
	if endpoints == "" {
		return stores{}, errors.New("ETCD_ENDPOINTS is not set (/etc/eru/minions.conf)")
	}
	config.Spec.DatastoreType = apiconfig.EtcdV3
	raw, err := etcd.New(etcd.Config{Endpoints: strings.Split(endpoints, ","), DialTimeout: etcdTime})
	if err != nil {
		return stores{}, fmt.Errorf("etcd at %s: %w", endpoints, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), etcdTime)
	defer cancel()
	if _, err := raw.Get(ctx, "/calico", etcd.WithCountOnly()); err != nil {
		return stores{}, fmt.Errorf("etcd at %s: %w", endpoints, err)
	}
	calico, err := clientv3.New(*config)
	if err != nil {
		return stores{}, fmt.Errorf("etcd at %s: %w", endpoints, err)
	}
	return stores{calico: calico, raw: raw}, nil
}

// hostname is the host's name as it is, upper case and all, as the real one
// takes it: it does not match a node's name that calicoctl made lower case.
// HOSTNAME in the environment wins, as there.
func hostname() (string, error) {
	if name := os.Getenv("HOSTNAME"); name != "" {
		return name, nil
	}
	return os.Hostname()
}

func call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTime)
}
