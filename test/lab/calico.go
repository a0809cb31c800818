package lab

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/test/lab/golden"
)

// WaitComplete waits until firstboot says that the host is complete. A run
// that ends otherwise is an error at once.
func (h *Host) WaitComplete(ctx context.Context) error {
	if err := h.WaitUp(ctx); err != nil {
		return err
	}
	end, ok := ctx.Deadline()
	if !ok {
		return fmt.Errorf("cannot wait for a complete host: without a deadline")
	}
	left := time.Until(end).Round(time.Second) - time.Second
	r, err := h.Run(ctx, fmt.Sprintf("firstboot status --wait=%s", max(left, time.Second)))
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("%s is not complete: firstboot status ended with %d:\n%s%s", h.Name, r.Code, r.Stdout, r.Stderr)
	}
	return nil
}

// BGPSession is a line of `birdcl show protocols`.
type BGPSession struct {
	Peer  string // address
	State string // up, start, down
	Info  string // Established, or what stands in its way
}

// birdSocket is where BIRD of a calico/node image takes questions.
const birdSocket = "/var/run/calico/bird.ctl"

// birdLine is "Mesh_10_123_0_12 BGP master up 15:23:31 Established".
var birdLine = regexp.MustCompile(`^(?:Mesh|Node|Global)_(\d+_\d+_\d+_\d+)\s+BGP\s+\S+\s+(\S+)\s+\S+\s*(.*)$`)

// BGPSessions asks the host's BIRD about its peers.
func (h *Host) BGPSessions(ctx context.Context) ([]BGPSession, error) {
	out, err := h.Output(ctx, "docker exec calico-node birdcl -s "+birdSocket+" show protocols")
	if err != nil {
		return nil, err
	}
	return sessionsIn(out), nil
}

// sessionsIn reads what `birdcl show protocols` printed.
func sessionsIn(out string) []BGPSession {
	var list []BGPSession
	for line := range strings.Lines(out) {
		if found := birdLine.FindStringSubmatch(strings.TrimSpace(line)); found != nil {
			list = append(list, BGPSession{Peer: strings.ReplaceAll(found[1], "_", "."), State: found[2], Info: strings.TrimSpace(found[3])})
		}
	}
	return list
}

// Container is a running container of the ping image on the cluster's network.
type Container struct {
	Host    *Host
	Name    string
	Address netip.Addr
}

// StartContainer starts a container on the network; args go to `docker run`.
func (h *Host) StartContainer(ctx context.Context, name string, args ...string) (Container, error) {
	c := Container{Host: h, Name: name}
	_, err := h.Output(ctx, fmt.Sprintf("docker run -d --name %s --network %s %s %s sleep 100000", name, Network, strings.Join(args, " "), golden.PingImage))
	if err != nil {
		return c, err
	}
	c.Address, err = h.containerAddress(ctx, name)
	return c, err
}

func (h *Host) containerAddress(ctx context.Context, name string) (netip.Addr, error) {
	out, err := h.Output(ctx, "docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "+name)
	if err != nil {
		return netip.Addr{}, err
	}
	address, err := netip.ParseAddr(strings.TrimSpace(out))
	if err != nil || !netip.MustParsePrefix(PoolCIDR).Contains(address) {
		return address, fmt.Errorf("container %s of %s has the address %q, want one of %s", name, h.Name, strings.TrimSpace(out), PoolCIDR)
	}
	return address, nil
}

const (
	pings = 5
	// settleTime is how long the first ping may take to get through: routes
	// travel by BGP, and Felix programs a new container's rules.
	settleTime = 60 * time.Second
)

// Ping lets the container ping an address: once until it gets through, as
// routes need a moment, and then five times, of which all must be answered. It
// returns ping's own summary.
func (c Container) Ping(ctx context.Context, to netip.Addr) (string, error) {
	waiting, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	err := c.Host.Wait(waiting, "answer of "+to.String(), func(ctx context.Context) error {
		_, err := c.Host.Output(ctx, fmt.Sprintf("docker exec %s ping -c 1 -W 2 %s", c.Name, to))
		return err
	})
	if err != nil {
		return "no answer", err
	}
	out, err := c.Host.Run(ctx, fmt.Sprintf("docker exec %s ping -c %d -W 2 %s", c.Name, pings, to))
	if err != nil {
		return "", err
	}
	summary := summaryOf(out.Stdout)
	if out.Code != 0 || !strings.Contains(summary, " 0% packet loss") {
		return summary, fmt.Errorf("%s on %s pings %s: %s", c.Name, c.Host.Name, to, summary)
	}
	return summary, nil
}

func summaryOf(output string) string {
	for line := range strings.Lines(output) {
		if strings.Contains(line, "packets transmitted") {
			return strings.TrimSpace(line)
		}
	}
	return "no summary"
}
