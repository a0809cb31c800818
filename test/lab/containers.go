package lab

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/test/lab/golden"
)

// WaitComplete waits until firstboot reports that the host is complete. If the
// run fails, WaitComplete returns an error at once.
func (h *Host) WaitComplete(ctx context.Context) error {
	if err := h.WaitUp(ctx); err != nil {
		return err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return fmt.Errorf("cannot wait until the host is complete: the context has no deadline")
	}
	left := time.Until(deadline).Round(time.Second) - time.Second
	r, err := h.Run(ctx, fmt.Sprintf("firstboot status --wait=%s", max(left, time.Second)))
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("%s is not complete: firstboot status exited with %d:\n%s%s", h.Name, r.Code, r.Stdout, r.Stderr)
	}
	return nil
}

// BGPSession is a line of `birdcl show protocols`.
type BGPSession struct {
	Peer  string // address
	State string // up, start, down
	Info  string // Established, or the state of the connection
}

// birdSocket is the control socket of BIRD in a calico/node image.
const birdSocket = "/var/run/calico/bird.ctl"

// birdLine matches lines like "Mesh_10_123_0_12 BGP master up 15:23:31 Established".
var birdLine = regexp.MustCompile(`^(?:Mesh|Node|Global)_(\d+_\d+_\d+_\d+)\s+BGP\s+\S+\s+(\S+)\s+\S+\s*(.*)$`)

// BGPSessions returns the BGP sessions of the host's BIRD.
func (h *Host) BGPSessions(ctx context.Context) ([]BGPSession, error) {
	out, err := h.Output(ctx, "docker exec calico-node birdcl -s "+birdSocket+" show protocols")
	if err != nil {
		return nil, err
	}
	return parseSessions(out), nil
}

// parseSessions parses the output of `birdcl show protocols`.
func parseSessions(out string) []BGPSession {
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

// StartContainer starts a container on the network. args are passed to `docker run`.
func (h *Host) StartContainer(ctx context.Context, name string, args ...string) (Container, error) {
	c := Container{Host: h, Name: name}
	_, err := h.Output(ctx, fmt.Sprintf("docker run -d --name %s --network %s %s %s sleep 100000", name, Network, strings.Join(args, " "), golden.PingImage))
	if err != nil {
		return c, err
	}
	c.Address, err = h.containerAddress(ctx, name)
	return c, err
}

// Container returns a container on the network with its current address. A restart
// can change it.
func (h *Host) Container(ctx context.Context, name string) (Container, error) {
	address, err := h.containerAddress(ctx, name)
	return Container{Host: h, Name: name, Address: address}, err
}

// WaitRunning waits until all containers run.
func (h *Host) WaitRunning(ctx context.Context, containers ...string) error {
	names := strings.Join(containers, " ")
	return h.Wait(ctx, "the containers "+names, func(ctx context.Context) error {
		out, err := h.Output(ctx, "docker inspect -f '{{.State.Running}}' "+names)
		if err == nil && strings.Contains(out, "false") {
			err = fmt.Errorf("running: %q", out)
		}
		return err
	})
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

// EndpointKeys is the prefix of the etcd keys of Calico's endpoints. The host name
// follows.
const EndpointKeys = "/calico/resources/v3/projectcalico.org/workloadendpoints/"

// Endpoints returns Docker's IDs of the host's endpoints in etcd, sorted.
func (h *Host) Endpoints(ctx context.Context) ([]string, error) {
	list, err := h.lab.Etcd.Range(ctx, EndpointKeys+h.Name+"/")
	if err != nil {
		return nil, err
	}
	var ids []string
	for line := range strings.Lines(list) {
		key, _, _ := strings.Cut(line, " ")
		ids = append(ids, key[strings.LastIndex(key, "-")+1:])
	}
	slices.Sort(ids)
	return ids, nil
}

// EndpointsOf returns Docker's IDs of the endpoints of containers, sorted.
func (h *Host) EndpointsOf(ctx context.Context, containers ...string) ([]string, error) {
	out, err := h.Output(ctx, "docker inspect -f '{{range .NetworkSettings.Networks}}{{.EndpointID}}{{end}}' "+strings.Join(containers, " "))
	return slices.Sorted(strings.FieldsSeq(out)), err
}

const (
	pings = 5
	// firstPingTimeout limits the wait for the first answered ping: BGP must
	// distribute the route, and Felix must program the container's rules. BIRD waits
	// for a peer that does not exist for four minutes after its start (graceful
	// restart) before it uses any route.
	firstPingTimeout = 6 * time.Minute
)

// Ping pings an address from the container. It first waits until a single ping
// is answered, because routes need some time. Then it sends five pings, which
// must all be answered, and returns ping's summary.
func (c Container) Ping(ctx context.Context, to netip.Addr) (string, error) {
	firstCtx, cancel := context.WithTimeout(ctx, firstPingTimeout)
	defer cancel()
	err := c.Host.Wait(firstCtx, "an answer from "+to.String(), func(ctx context.Context) error {
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
	summary := pingSummary(out.Stdout)
	if out.Code != 0 || !strings.Contains(summary, " 0% packet loss") {
		return summary, fmt.Errorf("ping from %s on %s to %s: %s", c.Name, c.Host.Name, to, summary)
	}
	return summary, nil
}

func pingSummary(output string) string {
	for line := range strings.Lines(output) {
		if strings.Contains(line, "packets transmitted") {
			return strings.TrimSpace(line)
		}
	}
	return "no summary"
}
