package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/text"
)

// createNetwork answers for the pool's network. The plugin would write Docker's
// ID into the pool's annotation, remove fields of the pool that it does not know,
// and refuse options of newer versions of Docker.
func (a *Adapter) createNetwork(ctx context.Context, c call) (answer, error) {
	network, err := Load(a.host)
	if err != nil {
		return answer{}, err
	}
	if !slices.ContainsFunc(c.params.IPv4Data, func(d ipam) bool { return d.Pool == network.CIDR.String() }) {
		a.setForeign(c.params.NetworkID, true)
		result, err := a.forward(ctx, c)
		if err != nil || !result.ok() {
			a.setForeign(c.params.NetworkID, false)
		}
		return result, err
	}
	if err := supported(c.params, network); err != nil {
		return answer{}, err
	}
	a.setForeign(c.params.NetworkID, false)
	return done("{}"), nil
}

// supported returns an error for options that would have no effect, as the plugin
// itself does.
func supported(p params, network Network) error {
	command := "; run: docker network create --driver calico --ipam-driver calico-ipam --subnet " + network.CIDR.String() + " NAME"
	if len(p.IPv4Data) > 1 {
		return errors.New("a Calico network has one subnet" + command)
	}
	if len(p.IPv6Data) > 0 {
		return errors.New("a local Calico network has no IPv6 addresses" + command)
	}
	var internal bool
	_ = json.Unmarshal(p.Options["com.docker.network.internal"], &internal) // not set, or not a bool: not internal
	if internal {
		return errors.New("a Calico network cannot be internal; use Calico's network policy" + command)
	}
	// calico-ipam has no gateway and returns 0.0.0.0/0. Docker's own IPAM would
	// assign addresses that other hosts also assign.
	if gateway, err := netip.ParsePrefix(p.IPv4Data[0].Gateway); err == nil && !gateway.Addr().IsUnspecified() {
		return fmt.Errorf("the gateway %s is not from calico-ipam%s", gateway.Addr(), command)
	}
	return nil
}

// deleteNetwork answers for the pool's network, so that it can be removed without
// the plugin and etcd. Docker sends only the ID.
func (a *Adapter) deleteNetwork(ctx context.Context, c call) (answer, error) {
	if !a.foreign(c.params.NetworkID) {
		return done("{}"), nil
	}
	result, err := a.forward(ctx, c)
	if err == nil && result.ok() {
		a.setForeign(c.params.NetworkID, false)
	}
	return result, err
}

// createEndpoint passes the ID of the pool's network to the plugin if the address
// is in the pool. The plugin finds the pool by it. If the call fails, Docker never
// deletes the endpoint, but the plugin may have created it.
func (a *Adapter) createEndpoint(ctx context.Context, c call) (answer, error) {
	network, err := Load(a.host)
	if err != nil {
		return answer{}, err
	}
	if address, ok := c.params.address(); !ok || !network.CIDR.Contains(address) {
		a.setForeign(c.params.NetworkID, true)
		return a.forward(ctx, c)
	}
	a.setForeign(c.params.NetworkID, false)
	translated, err := c.withNetworkID(network.ID)
	if err != nil {
		return answer{}, err
	}
	a.endpoints.creating(c.params.EndpointID)
	result, err := a.forward(ctx, translated)
	a.ended(c.params.EndpointID, result, err)
	return result, err
}

// forwardTranslated passes a call to the plugin as createEndpoint does. The plugin
// uses the network ID only when it creates an endpoint, so a call that ends an
// endpoint does not fail because the file is missing.
func (a *Adapter) forwardTranslated(ctx context.Context, c call) (answer, error) {
	if a.foreign(c.params.NetworkID) {
		return a.forward(ctx, c)
	}
	network, err := Load(a.host)
	if err != nil {
		return a.forward(ctx, c)
	}
	translated, err := c.withNetworkID(network.ID)
	if err != nil {
		return answer{}, err
	}
	return a.forward(ctx, translated)
}

// deleteEndpoint also removes the link that an unsuccessful Join left behind:
// Docker then sends no Leave. An endpoint that does not exist is no error, because
// Docker would keep its own record of it.
func (a *Adapter) deleteEndpoint(ctx context.Context, c call) (answer, error) {
	if a.foreign(c.params.NetworkID) {
		return a.forward(ctx, c)
	}
	a.endpoints.deleting(c.params.EndpointID)
	defer a.endpoints.use(c.params.EndpointID)()
	result, err := a.forwardTranslated(ctx, c)
	if err == nil && result.notFound() {
		result = done("{}")
	}
	if err != nil || !result.ok() {
		return result, err
	}
	a.endpoints.forget(c.params.EndpointID)
	if err := a.removeLink(c.params); err != nil {
		a.log(err.Error()) // the endpoint is deleted
	}
	return result, nil
}

// join removes the IPv6 gateway from the plugin's answer. It is the link-local
// address of the host's end, and setting a route to it fails in a container.
func (a *Adapter) join(ctx context.Context, c call) (answer, error) {
	defer a.endpoints.use(c.params.EndpointID)()
	result, err := a.forwardTranslated(ctx, c)
	if err != nil || !result.ok() || a.foreign(c.params.NetworkID) {
		return result, err
	}
	a.endpoints.joined(c.params.EndpointID)
	body, err := withoutIPv6(result.body)
	if err != nil {
		return answer{}, fmt.Errorf("cannot understand the answer of eru-minions: %s; run: systemctl status eru-minions", text.Line(err.Error()))
	}
	result.body = body
	return result, nil
}

// withoutIPv6 removes GatewayIPv6 and routes to link-local IPv6 addresses from an
// answer to Join. An answer without them is not changed.
func withoutIPv6(body []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, err
	}
	changed := removeField(fields, "GatewayIPv6")
	for key, value := range fields {
		if !strings.EqualFold(key, "StaticRoutes") {
			continue
		}
		var routes []json.RawMessage
		if err := json.Unmarshal(value, &routes); err != nil {
			return nil, err
		}
		kept := slices.DeleteFunc(slices.Clone(routes), linkLocalRoute)
		if len(kept) == len(routes) {
			continue
		}
		encoded, err := encode(kept)
		if err != nil {
			return nil, err
		}
		fields[key], changed = encoded, true
	}
	if !changed {
		return body, nil
	}
	return encode(fields)
}

func linkLocalRoute(route json.RawMessage) bool {
	var r struct{ Destination string }
	if json.Unmarshal(route, &r) != nil {
		return false // Docker reports what is wrong with it
	}
	to, err := netip.ParsePrefix(r.Destination)
	return err == nil && to.Addr().Is6() && to.Addr().IsLinkLocalUnicast()
}

// leave deletes the link, which is all that the plugin's own Leave must do. A link
// that does not exist is no error.
func (a *Adapter) leave(ctx context.Context, c call) (answer, error) {
	if a.foreign(c.params.NetworkID) {
		return a.forward(ctx, c)
	}
	if err := a.removeLink(c.params); err != nil {
		return answer{}, err
	}
	return done("{}"), nil
}

func (a *Adapter) removeLink(p params) error {
	link, err := p.link()
	if err != nil {
		return err
	}
	if err := a.host.Network().RemoveVeth(link); err != nil {
		return fmt.Errorf("%w; run: ip link delete %s", err, link)
	}
	return nil
}
