package main

import (
	"context"
	"encoding/json"

	etcd "go.etcd.io/etcd/client/v3"
)

// barrelPrefix is the prefix of all keys for fixed addresses. A container with
// the label fixed-ip keeps its address reserved when it stops.
const barrelPrefix = "/barrel/"

// barrel keeps reserved addresses. Almost every call uses it, so with etcd's
// users on, a role without the rights to its keys fails every container.
type barrel struct{ client *etcd.Client }

// reservation is an address that belongs to a stopped container.
type reservation struct{ PoolID, Address string }

// reservedContainer is the record of the container that a reservation is for.
type reservedContainer struct {
	ID        string
	Addresses []reservation
}

func (r reservation) addressKey() string { return r.key("addresses") }

// markKey is the key of an operator's request to reserve an address.
func (r reservation) markKey() string { return r.key("reservereqs") }

func (r reservation) key(kind string) string {
	if r.PoolID == "" {
		return barrelPrefix + kind + "/" + r.Address
	}
	return barrelPrefix + "pools/" + r.PoolID + "/" + kind + "/" + r.Address
}

// reserved reports whether the address is reserved.
func (b barrel) reserved(ctx context.Context, r reservation) (bool, error) {
	got, err := b.client.Get(ctx, r.addressKey())
	return err == nil && len(got.Kvs) > 0, err
}

// take ends a reservation, and reports whether there was one.
func (b barrel) take(ctx context.Context, r reservation) (bool, error) {
	return b.remove(ctx, r.addressKey())
}

// takeMark removes the request to reserve an address, and reports whether there
// was one.
func (b barrel) takeMark(ctx context.Context, r reservation) (bool, error) {
	return b.remove(ctx, r.markKey())
}

func (b barrel) remove(ctx context.Context, key string) (bool, error) {
	done, err := b.client.Delete(ctx, key)
	return err == nil && done.Deleted > 0, err
}

// reserve reserves the address for a container.
func (b barrel) reserve(ctx context.Context, r reservation, containerID string) error {
	address, err := json.Marshal(r)
	if err != nil {
		return err
	}
	container, err := json.Marshal(reservedContainer{ID: containerID, Addresses: []reservation{r}})
	if err != nil {
		return err
	}
	_, err = b.client.Txn(ctx).Then(
		etcd.OpPut(barrelPrefix+"containers/"+containerID, string(container)),
		etcd.OpPut(r.addressKey(), string(address)),
	).Commit()
	return err
}
