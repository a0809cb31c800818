package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/test/lab/golden"
	"github.com/projecteru2/firstboot/test/lab/labnet"
)

// Config is the configuration in the image and the artifacts in its bundle. A
// test may change Tree. The lab adds the sha256 of the artifacts unless the test
// has set them.
type Config struct {
	Tree    map[string]any
	Release golden.Release // of the hosts that boot the image

	bundle []artifact.Item
}

// Names of the artifacts, as in package stages.
const (
	calicoctl = "calicoctl"
	minions   = "eru-minions"
)

// PoolCIDR is the CIDR of the lab's pool. Network is the name of the Docker network.
const (
	PoolCIDR = "10.213.0.0/16"
	Network  = "firstboot"
)

// certificatesDir is the directory of etcd's certificates on a host.
const certificatesDir = "/etc/firstboot/etcd"

// config returns a configuration like an operator's: etcd, versions, digests and
// the pool. The artifacts come from the bundle. The node image is already in the
// Docker of the golden image. Hosts with Debian 12 have a global network if etcd
// allows it, as the hosts of today's clusters; others leave the choice to
// firstboot.
func (l *Lab) config(o Options, release golden.Release) *Config {
	c := &Config{
		Release: release,
		Tree: map[string]any{
			"etcd":      etcdConfig(o, release),
			"calicoctl": map[string]any{"version": l.Parts.CalicoctlVersion},
			"node":      map[string]any{"image": l.Parts.NodeImageName},
			"minions":   map[string]any{},
			"pool":      map[string]any{"name": Network, "cidr": PoolCIDR},
		},
		bundle: []artifact.Item{
			{Entry: artifact.Entry{Name: calicoctl, Version: l.Parts.CalicoctlVersion}, Path: l.Parts.Calicoctl},
			{Entry: artifact.Entry{Name: minions}, Path: l.Parts.MinionsRPM},
		},
	}
	if release == golden.Debian12 && !o.Etcd.NoV2 && !o.Etcd.TLS {
		c.Set("docker", "network", "global")
	}
	if o.Config != nil {
		o.Config(c)
	}
	return c
}

// etcdConfig returns the section etcd of a configuration. In a mixed etcd the hosts
// with Debian 12 use the endpoint without TLS.
func etcdConfig(o Options, release golden.Release) map[string]any {
	if !o.Etcd.TLS && (!o.Etcd.Mixed || release == golden.Debian12) {
		return map[string]any{"endpoints": []string{o.Etcd.Endpoint(o.gateway())}}
	}
	return map[string]any{
		"endpoints": []string{o.Etcd.TLSEndpoint(o.gateway())},
		"caFile":    certificatesDir + "/ca.pem",
		"certFile":  certificatesDir + "/client.pem",
		"keyFile":   certificatesDir + "/client-key.pem",
	}
}

// CertificateFiles returns etcd's certificates as files of a host's image, where
// the lab's configuration refers to them.
func CertificateFiles(c labnet.Certificates) ([]golden.File, error) {
	files := c.Of(labnet.User)
	var list []golden.File
	for _, f := range [][2]string{{files.CA, "ca.pem"}, {files.Cert, "client.pem"}, {files.Key, "client-key.pem"}} {
		data, err := os.ReadFile(f[0])
		if err != nil {
			return nil, err
		}
		list = append(list, golden.File{Path: certificatesDir + "/" + f[1], Data: data, Mode: 0o600})
	}
	return list, nil
}

// Set sets a value: Set("pool", "cidr", "10.123.0.0/16"). A nil value removes the
// key.
func (c *Config) Set(section, key string, value any) {
	s, ok := c.Tree[section].(map[string]any)
	if !ok {
		s = map[string]any{}
		c.Tree[section] = s
	}
	if value == nil {
		delete(s, key)
		return
	}
	s[key] = value
}

// NoBundle omits the bundle from the image.
func (c *Config) NoBundle() { c.bundle = nil }

func (c *Config) text() ([]byte, error) {
	for _, item := range c.bundle {
		section, key := "calicoctl", "sha256"
		if item.Name == minions {
			section = "minions"
		}
		digest, err := fileDigest(item.Path)
		if err != nil {
			return nil, err
		}
		if s, ok := c.Tree[section].(map[string]any); ok && s[key] == nil {
			s[key] = digest
		}
	}
	data, err := yaml.Marshal(c.Tree)
	if err != nil {
		return nil, fmt.Errorf("cannot write the image's configuration: %w", err)
	}
	return append([]byte("# Configuration of the lab's hosts, written by test/lab.\n"), data...), nil
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("cannot read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
