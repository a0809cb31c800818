package app

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/secret"
)

// logMask returns the mask for logs: of the secrets of the saved configuration,
// of the sources and of the files of --config. If one of them that may have
// been in effect cannot be read, the mask is the zero mask, which omits all
// text.
func (m *machine) logMask(ctx context.Context) (mask, error) {
	saved, err := m.saved()
	if err != nil {
		return mask{}, err
	}
	var all []*config.Config
	if saved != nil {
		all = append(all, saved.Config)
	}
	sources := *m
	sources.Files = nil
	inEffect := saved == nil
	for _, from := range []*machine{&sources, m} {
		loaded, err := from.loadLocal(ctx)
		switch {
		case err == nil:
			all = append(all, loaded.Config)
		case inEffect || len(from.Files) > 0:
			return mask{}, err
		}
	}
	return newMask(m.state, all...), nil
}

// shownJSON are the keys of other programs' JSON files, such as Docker's
// daemon.json, whose values a bug report contains. Others may hold passwords,
// tokens or URLs with credentials.
var shownJSON = []string{
	"bip", "bridge", "cluster-store", "containerd-snapshotter", "data-root", "debug", "default-address-pools", "exec-opts", "experimental", "features",
	"fixed-cidr", "group", "hosts", "icc", "init", "ip-forward", "ip-masq", "iptables", "ip6tables", "ipv6", "live-restore", "log-driver", "log-level",
	"max-file", "max-size", "mtu", "native.cgroupdriver", "selinux-enabled", "storage-driver", "userland-proxy", "userns-remap",
}

// redactJSON returns a JSON object in which the values of other keys than
// shownJSON are masked, or secret.Omitted if data is not JSON.
func redactJSON(data []byte) string {
	var tree map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if d.Decode(&tree) != nil || d.More() {
		return secret.Omitted + "\n"
	}
	text, err := json.MarshalIndent(redactTree(tree), "", "  ")
	if err != nil {
		return secret.Omitted + "\n"
	}
	return string(text) + "\n"
}

func redactTree(tree map[string]any) map[string]any {
	for key, v := range tree {
		text, isText := v.(string)
		inner, isTree := v.(map[string]any)
		switch {
		case isTree:
			tree[key] = redactTree(inner)
		case key == "cluster-store" && isText:
			tree[key] = secret.URL(text)
		case !slices.Contains(shownJSON, key):
			tree[key] = secret.Value("hidden")
		}
	}
	return tree
}
