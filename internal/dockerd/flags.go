package dockerd

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// Flags is dockerd's command line.
type Flags string

// ReadFlags reads the command line from Docker's unit. It adds the defaults file of
// Debian, unless the unit uses no variable: docker-ce's unit does not read the file.
func ReadFlags(ctx context.Context, h *host.Host) Flags {
	var flags string
	if start, err := h.Systemd().Property(ctx, units.Docker, "Service", "ExecStart"); err == nil {
		flags = fmt.Sprint(start)
		if !strings.Contains(flags, "$") {
			return Flags(flags)
		}
	}
	if defaults, err := h.ReadFile("/etc/default/docker"); err == nil {
		for line := range strings.Lines(string(defaults)) {
			if !strings.HasPrefix(strings.TrimSpace(line), "#") {
				flags += " " + line
			}
		}
	}
	return Flags(flags)
}

// Has reports whether the command line contains a flag, such as --userns-remap.
func (f Flags) Has(flag string) bool { return strings.Contains(string(f), flag) }

// Store returns the flag that conflicts with a key which firstboot sets in
// daemon.json, or "".
func (f Flags) Store() string {
	for _, flag := range []string{"--cluster-store", "--cluster-advertise"} {
		if f.Has(flag) {
			return flag
		}
	}
	return ""
}

// storeFlag matches dockerd's flag for a cluster-store.
var storeFlag = regexp.MustCompile(`--cluster-store[= ]+"?([^\s"\]]+)`)

// ClusterStore returns the URL that --cluster-store sets, or "".
func (f Flags) ClusterStore() string {
	if m := storeFlag.FindStringSubmatch(string(f)); m != nil {
		return m[1]
	}
	return ""
}

// configFlag matches dockerd's flag for another configuration file.
var configFlag = regexp.MustCompile(`--config-file[= ]+"?([^\s"\]]+)`)

// ConfigFile returns the path that --config-file sets, or "".
func (f Flags) ConfigFile() string {
	if m := configFlag.FindStringSubmatch(string(f)); m != nil {
		return m[1]
	}
	return ""
}
