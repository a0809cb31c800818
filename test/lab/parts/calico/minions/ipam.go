package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"

	"github.com/docker/go-plugins-helpers/ipam"
	api "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	calicoipam "github.com/projectcalico/calico/libcalico-go/lib/ipam"
	caliconet "github.com/projectcalico/calico/libcalico-go/lib/net"
	"github.com/projectcalico/calico/libcalico-go/lib/options"
)

const (
	localSpace  = "CalicoLocalAddressSpace"
	globalSpace = "CalicoGlobalAddressSpace"
	// anyPool is the pool ID of a network without --subnet.
	anyPool = "CalicoPoolIPv4"
	// noGateway keeps Docker from requesting an address for a gateway.
	noGateway = "0.0.0.0/0"
)

// ipamDriver assigns addresses from Calico's pools. The pool ID that it returns
// to Docker is the name of the Calico pool.
type ipamDriver struct{ etcdClients }

func (ipamDriver) GetCapabilities() (*ipam.CapabilitiesResponse, error) {
	return &ipam.CapabilitiesResponse{}, nil
}

func (ipamDriver) GetDefaultAddressSpaces() (*ipam.AddressSpacesResponse, error) {
	return &ipam.AddressSpacesResponse{LocalDefaultAddressSpace: localSpace, GlobalDefaultAddressSpace: globalSpace}, nil
}

// RequestPool finds the Calico pool with the CIDR given to docker network
// create --subnet. It never creates a pool.
func (d ipamDriver) RequestPool(r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	answer := &ipam.RequestPoolResponse{PoolID: anyPool, Pool: noGateway, Data: map[string]string{"com.docker.network.gateway": noGateway}}
	switch {
	case r.V6:
		return nil, errors.New("IPv6 pools are not supported")
	case r.SubPool != "":
		return nil, errors.New("subpools are not supported: create the pool in Calico")
	case len(r.Options) != 0:
		return nil, errors.New("arbitrary options are not supported")
	case r.Pool == "":
		return answer, nil
	}
	_, cidr, err := caliconet.ParseCIDR(r.Pool)
	if err != nil {
		return nil, fmt.Errorf("invalid CIDR %s: %w", r.Pool, err)
	}
	ctx, cancel := callContext()
	defer cancel()
	pools, err := d.calico.IPPools().List(ctx, options.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, p := range pools.Items {
		if p.Spec.CIDR == cidr.String() {
			answer.PoolID, answer.Pool = p.Name, p.Spec.CIDR
			return answer, nil
		}
	}
	return nil, fmt.Errorf("The requested subnet(%s) didn't match any CIDR of a configured Calico IP Pool.", r.Pool) //nolint:staticcheck // the real plugin's message
}

func (ipamDriver) ReleasePool(*ipam.ReleasePoolRequest) error { return nil }

func (d ipamDriver) RequestAddress(r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	if r.Options["RequestAddressType"] == "com.docker.network.gateway" {
		return nil, errors.New("specifying a gateway is not supported")
	}
	host, err := hostname()
	if err != nil {
		return nil, err
	}
	ctx, cancel := callContext()
	defer cancel()
	ip, err := d.request(ctx, host, r.PoolID, r.Address)
	if err != nil {
		return nil, err
	}
	if _, err := d.barrel.takeMark(ctx, reservation{PoolID: r.PoolID, Address: ip}); err != nil {
		return nil, err
	}
	log.Printf("assigned address %s of pool %s to host %s", ip, r.PoolID, host)
	return &ipam.RequestAddressResponse{Address: ip + "/32"}, nil
}

// request returns an address: one that is reserved, or else one from Calico.
func (d ipamDriver) request(ctx context.Context, host, pool, address string) (string, error) {
	if address != "" {
		taken, err := d.barrel.take(ctx, reservation{PoolID: pool, Address: address})
		if err != nil || taken {
			return address, err
		}
	}
	return d.assign(ctx, host, pool, address)
}

// assign assigns the requested address. If none is requested, it assigns the
// next free address of the pool, from one of this host's blocks.
func (d ipamDriver) assign(ctx context.Context, host, pool, address string) (string, error) {
	if address != "" {
		ip := net.ParseIP(address)
		if ip == nil {
			return "", fmt.Errorf("invalid address %q", address)
		}
		return address, d.calico.IPAM().AssignIP(ctx, calicoipam.AssignIPArgs{IP: caliconet.IP{IP: ip}, Hostname: host})
	}
	args := calicoipam.AutoAssignArgs{Num4: 1, Hostname: host, IntendedUse: api.IPPoolAllowedUseWorkload}
	if pool != anyPool {
		p, err := d.calico.IPPools().Get(ctx, pool, options.GetOptions{})
		if err != nil {
			return "", err
		}
		_, cidr, err := caliconet.ParseCIDR(p.Spec.CIDR)
		if err != nil {
			return "", err
		}
		args.IPv4Pools = []caliconet.IPNet{*cidr}
	}
	v4, _, err := d.calico.IPAM().AutoAssign(ctx, args)
	if err != nil {
		return "", err
	}
	if v4 == nil || len(v4.IPs) != 1 {
		return "", fmt.Errorf("no free address in pool %s for host %s", pool, host)
	}
	return v4.IPs[0].IP.String(), nil
}

func (d ipamDriver) ReleaseAddress(r *ipam.ReleaseAddressRequest) error {
	ctx, cancel := callContext()
	defer cancel()
	reserved, err := d.barrel.reserved(ctx, reservation{PoolID: r.PoolID, Address: r.Address})
	if err != nil || reserved {
		return err
	}
	_, err = d.calico.IPAM().ReleaseIPs(ctx, calicoipam.ReleaseOptions{Address: r.Address})
	return err
}
