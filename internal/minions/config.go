// Package minions knows eru-minions, Docker's network plugin: its RPM, its
// configuration, the sockets on which it serves Docker, and what it leaves behind
// when a power cut interrupts it.
package minions

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/tunnel"
	"github.com/projecteru2/firstboot/units"
)

// ConfPath is the plugin's environment file. An installation of the package
// overwrites it.
const ConfPath = "/etc/eru/minions.conf"

// Files returns the plugin's configuration, and the drop-ins that order it before
// Docker and, with a local network, give it another socket.
func Files(c *config.Config, local bool) []host.File {
	list := []host.File{confFile(c)}
	for _, d := range dropIns(local) {
		list = append(list, host.File{Path: d.Path, Data: d.Data, Mode: 0o644})
	}
	return list
}

func dropIns(local bool) []units.File {
	if local {
		return units.LocalDropIns()
	}
	return units.DropIns()
}

// DropIn returns the drop-in of the plugin's own unit.
func DropIn(local bool) host.File {
	list := dropIns(local)
	own := list[slices.IndexFunc(list, func(f units.File) bool { return f.Path == units.MinionsDropIn })]
	return host.File{Path: own.Path, Data: own.Data, Mode: 0o644}
}

// IsLocal reports whether the plugin is configured for a local network.
func IsLocal(h *host.Host) bool {
	data, err := h.ReadFile(units.MinionsDropIn)
	return err == nil && bytes.Contains(data, []byte("\nEnvironment=CALICO_CNM="))
}

// confFile returns the plugin's environment file.
func confFile(c *config.Config) host.File {
	var b strings.Builder
	endpoints := strings.Join(c.Etcd.Endpoints, ",")
	if c.Etcd.TLS() {
		endpoints = tunnel.Endpoint // the plugin's second client knows no TLS
	}
	fmt.Fprintf(&b, "ETCD_ENDPOINTS=%s\n", endpoints)
	for _, key := range slices.Sorted(maps.Keys(c.Minions.Environment)) {
		fmt.Fprintf(&b, "%s=%s\n", key, quoteEnvironment(c.Minions.Environment[key].Reveal()))
	}
	file := host.File{Path: ConfPath, Data: []byte(b.String()), Mode: 0o644}
	if len(c.Minions.Environment) > 0 {
		file.Mode = 0o600 // it may contain secrets
	}
	return file
}

// quoteEnvironment quotes a value for systemd's EnvironmentFile=, which keeps
// line breaks inside quotes.
func quoteEnvironment(v string) string {
	if v != "" && !strings.ContainsAny(v, " \t\n\r\"'\\$#;`") {
		return v
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(v) + `"`
}

// namespaceVariable sets the plugin's namespace in Calico.
const namespaceVariable = "CALICO_LIBNETWORK_NAMESPACE"

// Namespace returns the namespace of the plugin's endpoints, which is by default
// the name of the host.
func Namespace(c *config.Config, hostName string) string {
	if other := c.Minions.Environment[namespaceVariable].Reveal(); other != "" {
		return other
	}
	return hostName
}
