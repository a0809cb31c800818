// Package calico knows Calico: calicoctl and the documents that it writes for the
// cluster, the container of calico-node and its BGP peers, and the interfaces and
// routes that Calico makes. Package cluster reads Calico's objects from etcd.
package calico

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/fault"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/text"
)

const (
	// CtlPath is the path of the installed calicoctl.
	CtlPath = "/usr/bin/calicoctl"
	// CtlConfigPath is calicoctl's configuration file.
	CtlConfigPath = "/etc/calico/calicoctl.cfg"
	ctlConfigFlag = "--config=" + CtlConfigPath
	// ctlTimeout bounds a call of calicoctl, which hangs if etcd is unreachable.
	ctlTimeout = 60 * time.Second
)

// CtlConfig returns calicoctl's configuration file, which calicoctl parses
// strictly.
func CtlConfig(etcd config.Etcd) (host.File, error) {
	spec := yaml.MapSlice{
		{Key: "datastoreType", Value: "etcdv3"},
		{Key: "etcdEndpoints", Value: strings.Join(etcd.Endpoints, ",")},
	}
	for _, f := range []struct{ key, value string }{
		{"etcdCACertFile", etcd.CAFile}, {"etcdCertFile", etcd.CertFile}, {"etcdKeyFile", etcd.KeyFile},
	} {
		if f.value != "" {
			spec = append(spec, yaml.MapItem{Key: f.key, Value: f.value})
		}
	}
	body, err := yaml.Marshal(yaml.MapSlice{
		{Key: "apiVersion", Value: apiVersion},
		{Key: "kind", Value: "CalicoAPIConfig"},
		{Key: "metadata", Value: yaml.MapSlice{}},
		{Key: "spec", Value: spec},
	})
	return host.File{Path: CtlConfigPath, Data: append([]byte(host.FileHeader), body...), Mode: 0o644}, err
}

var clientVersion = regexp.MustCompile(`(?m)^Client Version:[ \t]+(\S+)`)

// clientVersionIn returns the version in the output of calicoctl version, or "".
func clientVersionIn(output []byte) string {
	m := clientVersion.FindSubmatch(output)
	if m == nil {
		return ""
	}
	return text.Line(string(m[1]))
}

// CtlVersion returns the version that the calicoctl at path prints. It passes a
// configuration that calicoctl cannot read: calicoctl then prints its version
// and exits. With a valid one it would connect to etcd, and hang if etcd is
// unreachable.
func CtlVersion(ctx context.Context, h *host.Host, path string) (string, error) {
	out, err := h.Query(ctx, host.Command{
		Name: path, Args: []string{"version", "--config=/dev/null"},
		Env: []string{"DATASTORE_TYPE=none"}, Timeout: ctlTimeout,
	})
	if version := clientVersionIn(out.Stdout); version != "" {
		return version, nil
	}
	if err == nil {
		err = fmt.Errorf("%s version printed no client version", path)
	}
	return "", err
}

// Create creates objects of the cluster. One that exists is no error, and stays as it
// is. calicoctl 3.23 then still creates the others (measured), but does not promise
// that. The caller reads and compares them.
func Create(ctx context.Context, h *host.Host, list ...Document) error {
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return runCtl(ctx, h, "already exists", data, "create", ctlConfigFlag, "-f", "-")
}

// RepairPool binds an IPPool to a Docker network and sets the fields that the
// plugin strips, in one patch: a patch of the spec alone deletes the annotation
// (measured with calicoctl 3.23).
func RepairPool(ctx context.Context, h *host.Host, name, networkID string) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{NetworkIDAnnotation: networkID}},
		"spec":     map[string]any{"vxlanMode": VXLANMode},
	})
	if err != nil {
		return err
	}
	return runCtl(ctx, h, "", nil, "patch", "ippool", name, ctlConfigFlag, "-p", string(patch))
}

// DeleteNode deletes a Node and releases its addresses. One that does not exist is
// no error.
func DeleteNode(ctx context.Context, h *host.Host, name string) error {
	return runCtl(ctx, h, "does not exist", nil, "delete", "node", name, ctlConfigFlag)
}

// runCtl runs calicoctl, which may also fail with the message that done is part
// of. If it timed out, the error is transient, because etcd is then unreachable.
func runCtl(ctx context.Context, h *host.Host, done string, stdin []byte, args ...string) error {
	out, err := h.Run(ctx, host.Command{Name: CtlPath, Args: args, Stdin: stdin, Timeout: ctlTimeout})
	if err == nil || done != "" && strings.Contains(string(out.Stdout)+string(out.Stderr), done) {
		return nil
	}
	var failed *host.CommandError
	if errors.As(err, &failed) && failed.TimedOut > 0 {
		return fault.New(fault.Transient, fault.Timeout, err)
	}
	return err
}
