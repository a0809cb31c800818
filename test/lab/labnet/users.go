package labnet

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// prefixes are the keys that the role of User can read and write: Calico's, the
// plugin's and firstboot's.
var prefixes = []string{"/calico/", "/barrel/", "/firstboot/"}

// callTimeout limits a call to etcd.
const callTimeout = 30 * time.Second

// Client returns a client of etcd, as the user Root if etcd has users. The caller
// must close it.
func (e *Etcd) Client() (*clientv3.Client, error) { return e.clientOf(Root) }

func (e *Etcd) clientOf(user string) (*clientv3.Client, error) {
	config := clientv3.Config{
		Endpoints: []string{e.Endpoint}, DialTimeout: callTimeout,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return e.net.Dial(ctx, "tcp", address)
		})},
	}
	if e.options.TLS {
		var err error
		if config.TLS, err = e.options.Certificates.client(user); err != nil {
			return nil, fmt.Errorf("cannot connect to etcd: %w", err)
		}
	}
	return clientv3.New(config)
}

// Range returns the keys with a prefix and their values, one key per line.
func (e *Etcd) Range(ctx context.Context, prefix string) (string, error) {
	client, err := e.Client()
	if err != nil {
		return "", err
	}
	defer client.Close()
	answer, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return "", fmt.Errorf("cannot read etcd's keys below %s: %w", prefix, err)
	}
	var list strings.Builder
	for _, kv := range answer.Kvs {
		fmt.Fprintf(&list, "%s %s\n", kv.Key, kv.Value)
	}
	return list.String(), nil
}

// addUsers creates the users and requires authentication. It is called once, for
// an etcd without data. Etcd takes the common name of a client's certificate as
// the user.
func (e *Etcd) addUsers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client, err := e.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	withoutPassword := &clientv3.UserAddOptions{NoPassword: true}
	for _, name := range []string{Root, User} {
		if _, err := client.RoleAdd(ctx, name); err != nil {
			return fmt.Errorf("cannot add the role %s to etcd: %w", name, err)
		}
		if _, err := client.UserAddWithOptions(ctx, name, "", withoutPassword); err != nil {
			return fmt.Errorf("cannot add the user %s to etcd: %w", name, err)
		}
		if _, err := client.UserGrantRole(ctx, name, name); err != nil {
			return fmt.Errorf("cannot grant a role to the user %s of etcd: %w", name, err)
		}
	}
	for _, prefix := range prefixes {
		if _, err := client.RoleGrantPermission(ctx, User, prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
			return fmt.Errorf("cannot grant %s to the role %s of etcd: %w", prefix, User, err)
		}
	}
	if _, err := client.AuthEnable(ctx); err != nil {
		return fmt.Errorf("cannot require authentication by etcd: %w", err)
	}
	return nil
}
