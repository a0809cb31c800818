package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/projecteru2/firstboot/test/lab"
)

// system prints a host's release of Debian, its Docker, and the scope of the
// cluster's network.
const system = ". /etc/os-release; docker version -f \"$NAME $VERSION_ID, Docker {{.Server.Version}}\"; docker network inspect -f '{{.Scope}} network' " + lab.Network

// showMembers prints the hosts and their BGP sessions.
func showMembers(ctx context.Context, l *lab.Lab, out *screen) error {
	out.title("The hosts")
	for _, h := range l.Hosts {
		sessions, err := h.BGPSessions(ctx)
		if err != nil {
			return err
		}
		of, err := h.Output(ctx, system)
		if err != nil {
			return err
		}
		out.plain(fmt.Sprintf("  %-8s %s  %s\n", h.Name, h.Address, strings.ReplaceAll(strings.TrimSpace(of), "\n", ", ")))
		for _, s := range sessions {
			out.plain(fmt.Sprintf("           BGP with %-15s %-6s %s\n", s.Peer, s.State, s.Info))
		}
		if want := len(l.Hosts) - 1; established(sessions) != want {
			return fmt.Errorf("%s has %d established BGP sessions, want %d", h.Name, established(sessions), want)
		}
	}
	return nil
}

func established(sessions []lab.BGPSession) int {
	n := 0
	for _, s := range sessions {
		if s.Info == "Established" {
			n++
		}
	}
	return n
}

// showContainers starts a container on each host and sends pings in both directions
// between neighbours. All pairs would take long with many hosts.
func showContainers(ctx context.Context, l *lab.Lab, out *screen) error {
	out.title("A container on each host, on the network " + lab.Network)
	containers := make([]lab.Container, len(l.Hosts))
	err := l.Each(func(h *lab.Host) error {
		for i := range l.Hosts {
			if l.Hosts[i] == h {
				var err error
				containers[i], err = h.StartContainer(ctx, "demo-"+h.Name)
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range containers {
		out.plain(fmt.Sprintf("  %-14s %-16s on %s\n", c.Name, c.Address, c.Host.Name))
	}
	if len(containers) < 2 {
		return nil
	}
	out.title("Routes between hosts, learned by BIRD")
	for _, h := range l.Hosts {
		if err := showRoutes(ctx, h, out); err != nil {
			return err
		}
	}
	out.title("Pings between containers of different hosts")
	var all []error
	for i := range containers {
		next := (i + 1) % len(containers)
		all = append(all, ping(ctx, containers[i], containers[next], out))
		if next < i && len(containers) == 2 {
			break
		}
		if len(containers) > 2 {
			all = append(all, ping(ctx, containers[next], containers[i], out))
		}
	}
	return errors.Join(all...)
}

func showRoutes(ctx context.Context, h *lab.Host, out *screen) error {
	routes, err := h.Output(ctx, "ip route show proto bird")
	if err != nil {
		return err
	}
	remote := 0
	for line := range strings.Lines(routes) {
		out.plain(fmt.Sprintf("  %-8s %s\n", h.Name, strings.TrimSpace(line)))
		if strings.Contains(line, " via ") {
			remote++
		}
	}
	if remote == 0 {
		return fmt.Errorf("%s has no route to another host's containers", h.Name)
	}
	return nil
}

func ping(ctx context.Context, from, to lab.Container, out *screen) error {
	answer, err := from.Ping(ctx, to.Address)
	out.plain(fmt.Sprintf("  %s on %s -> %s on %s (%s): %s\n", from.Name, from.Host.Name, to.Name, to.Host.Name, to.Address, answer))
	return err
}
