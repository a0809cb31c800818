// Command eru-minions is the lab's stand-in for the Docker plugin of that name,
// which cannot be downloaded as a Go module. It uses Calico's real libraries
// and has the plugin's unit, environment, flags, sockets and faults. Its
// behaviour was measured on the real plugin. A comment that refers to "the
// real plugin" marks a fault that is reproduced on purpose.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"
)

// version is set by the linker.
var version = "unknown"

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
// the sockets after it has connected to etcd. A name that is an absolute path is
// the socket itself; its directory must exist. Like the sockets of the real
// plugin, they are not removed when the process is killed.
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
	log.Printf("serving %s and %s with etcd at %s", cnm, ipamName, strings.Join(clients.pools.Endpoints(), " "))
	return <-failed
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
