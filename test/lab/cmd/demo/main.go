// Command demo demonstrates firstboot. It boots bare machines from a golden image,
// waits until all have joined the Calico network, and sends pings between their
// containers. It exits with 0 if all of this succeeds.
//
// Options are environment variables, as set by `make demo HOSTS=3 KEEP=1`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	"github.com/projecteru2/firstboot/test/lab"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labnet"
	"github.com/projecteru2/firstboot/test/lab/parts"
)

// labName is the name of the demo's lab. Only one demo can run at a time.
const labName = "demo"

const usage = `usage: make demo [DEBIAN=13|12|mixed] [HOSTS=2] [KEEP=1] [CALICOCTL=FILE] [NODE_IMAGE=FILE] [MINIONS_RPM=FILE]
       make demo-stop          stop a demo that was kept
       make demo-shell HOST=host1

  DEBIAN       13: Debian 13, Docker 26, local networks, etcd without the v2 API
               (the default)
               12: Debian 12, Docker 20.10, a global network in etcd's v2 API
               mixed: both in one cluster, alternately; the hosts with Debian 13 join
               after the others are complete
  HOSTS        number of machines; each needs 1 GB of memory
  KEEP=1       leave them running
  CALICOCTL    your calicoctl, instead of one built from source
  NODE_IMAGE   your calico/node image, in the format of docker save
  MINIONS_RPM  your eru-minions package
  FIRSTBOOT    a firstboot binary, instead of one built from this checkout

example: make demo HOSTS=3 KEEP=1 MINIONS_RPM=/root/eru-minions-21.06.rpm
`

// defaultDebian is the default of DEBIAN.
const defaultDebian = "13"

// clusters are the values of DEBIAN: the hosts' releases, and an etcd with the v2
// API if a host has a global network.
var clusters = map[string]cluster{
	"13":    {debian: []golden.Release{golden.Debian13}, etcd: labnet.EtcdOptions{NoV2: true}},
	"12":    {debian: []golden.Release{golden.Debian12}},
	"mixed": {debian: []golden.Release{golden.Debian12, golden.Debian13}},
}

type cluster struct {
	debian []golden.Release
	etcd   labnet.EtcdOptions
}

// waves returns the indexes of the hosts that start together. Hosts with a local
// network join a pool of a global one, but not the other way round.
func (c cluster) waves(hosts int) [][]int {
	var global, local []int
	for i := range hosts {
		if c.debian[i%len(c.debian)] == golden.Debian12 {
			global = append(global, i)
		} else {
			local = append(local, i)
		}
	}
	return slices.DeleteFunc([][]int{global, local}, func(wave []int) bool { return len(wave) == 0 })
}

// settings are the demo's options.
type settings struct {
	cluster   cluster
	hosts     int
	keep      bool
	parts     parts.Options
	firstboot string
}

func main() {
	if err := runCommand(); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		if errors.Is(err, context.Canceled) {
			os.Exit(130)
		}
		os.Exit(1)
	}
}

func runCommand() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the demo at once
	command := "run"
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	switch {
	case command == "run" && len(os.Args) <= 2:
		s, err := readSettings()
		if err != nil {
			return err
		}
		return run(ctx, s)
	case command == "stop" && len(os.Args) == 2:
		return lab.Stop(labName)
	case command == "shell" && len(os.Args) == 3:
		return shell(os.Args[2])
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("unknown command %q", os.Args[1:])
}

func readSettings() (settings, error) {
	s := settings{hosts: 2, parts: parts.Options{
		Calicoctl:  os.Getenv("CALICOCTL"),
		NodeImage:  os.Getenv("NODE_IMAGE"),
		MinionsRPM: os.Getenv("MINIONS_RPM"),
	}, firstboot: os.Getenv("FIRSTBOOT")}
	debian := os.Getenv("DEBIAN")
	if debian == "" {
		debian = defaultDebian
	}
	var ok bool
	if s.cluster, ok = clusters[debian]; !ok {
		return s, fmt.Errorf("DEBIAN=%s is not 13, 12 or mixed", debian)
	}
	if text := os.Getenv("HOSTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return s, fmt.Errorf("HOSTS=%s is not a positive number", text)
		}
		s.hosts = n
	}
	switch text := os.Getenv("KEEP"); text {
	case "", "0", "no", "false":
	default:
		s.keep = true
	}
	return s, nil
}

// shell replaces this process with an SSH session on a host of the kept lab.
func shell(host string) error {
	command, err := lab.Shell(labName, host)
	if err != nil {
		return err
	}
	return syscall.Exec(command[0], command, os.Environ())
}
