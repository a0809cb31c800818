package lab

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labnet"
)

func TestConfigFitsTheReleaseAndEtcd(t *testing.T) {
	withTLS := func(endpoint string) map[string]any {
		return map[string]any{
			"endpoints": []string{endpoint}, "caFile": "/etc/firstboot/etcd/ca.pem",
			"certFile": "/etc/firstboot/etcd/client.pem", "keyFile": "/etc/firstboot/etcd/client-key.pem",
		}
	}
	plain := map[string]any{"endpoints": []string{"http://10.123.0.1:2379"}}
	global := map[string]any{"network": "global"}
	for name, test := range map[string]struct {
		release golden.Release
		etcd    labnet.EtcdOptions
		want    map[string]any
		docker  any
	}{
		"Debian 12":                     {golden.Debian12, labnet.EtcdOptions{}, plain, global},
		"Debian 12, etcd without v2":    {golden.Debian12, labnet.EtcdOptions{NoV2: true}, plain, nil},
		"Debian 12, etcd with TLS":      {golden.Debian12, labnet.EtcdOptions{TLS: true}, withTLS("https://10.123.0.1:2379"), nil},
		"Debian 12, mixed":              {golden.Debian12, labnet.EtcdOptions{Mixed: true}, plain, global},
		"Debian 13":                     {golden.Debian13, labnet.EtcdOptions{}, plain, nil},
		"Debian 13, mixed":              {golden.Debian13, labnet.EtcdOptions{Mixed: true}, withTLS("https://10.123.0.1:2381"), nil},
		"Debian 13, TLS and without v2": {golden.Debian13, labnet.EtcdOptions{TLS: true, NoV2: true}, withTLS("https://10.123.0.1:2379"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Etcd: test.etcd}.withDefaults()
			tree := new(Lab).config(o, test.release).Tree
			if diff := cmp.Diff(test.want, tree["etcd"]); diff != "" {
				t.Errorf("etcd:\n%s", diff)
			}
			if diff := cmp.Diff(test.docker, tree["docker"]); diff != "" {
				t.Errorf("docker:\n%s", diff)
			}
		})
	}
}
