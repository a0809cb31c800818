package stages

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/host"
)

// kernelModules looks whether what the sysctl stage loads is there to be
// loaded: an image with another kernel's modules is a common mistake.
func (s preflight) kernelModules(ctx context.Context, _ dockerView) ([]concern, error) {
	var missing []string
	for _, m := range modules(s.Config) {
		if !s.Host.ModuleLoaded(m) && !s.Host.ModuleAvailable(ctx, m) {
			missing = append(missing, m)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return concernOf("kernel-modules", "kernel modules", "no "+strings.Join(missing, ", "), "loaded, or found by modprobe",
		"install the modules of the running kernel (uname -r)"), nil
}

// appArmor: with AppArmor on and no parser, Docker fails to start every
// container that is not privileged (measured).
func (s preflight) appArmor(context.Context, dockerView) ([]concern, error) {
	on, err := s.Host.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || !strings.HasPrefix(string(on), "Y") {
		return nil, nil //nolint:nilerr // a kernel without AppArmor has no such file
	}
	if _, ok := s.Host.LookPath("apparmor_parser"); ok {
		return nil, nil
	}
	return concernOf("apparmor-parser", "AppArmor", "on, without apparmor_parser", "apparmor_parser, so that Docker can start containers",
		"install the package apparmor, or boot with apparmor=0"), nil
}

// forwardPolicy warns of a firewall that drops what is forwarded. Docker sets
// the same policy, and lets through what is its own and Felix's.
func (s preflight) forwardPolicy(ctx context.Context, _ dockerView) ([]concern, error) {
	if _, ok := s.Host.LookPath("iptables"); !ok {
		return nil, nil
	}
	out, err := s.Host.Query(ctx, host.Command{Name: "iptables", Args: []string{"-w", "5", "-S", "FORWARD"}, Timeout: 20 * time.Second})
	rules := string(out.Stdout)
	if err != nil || !strings.Contains(rules, "-P FORWARD DROP") || strings.Contains(rules, "DOCKER-USER") || strings.Contains(rules, "cali-FORWARD") {
		return nil, nil //nolint:nilerr // where the rules cannot be listed there is nothing to warn of
	}
	return warningOf("forward-policy", "iptables FORWARD", "policy DROP", "ACCEPT, or a rule for cali+",
		"containers may not be reached from other hosts: iptables -P FORWARD ACCEPT"), nil
}

// networkManager warns that it runs; the config stage keeps it off Calico's
// interfaces.
func (s preflight) networkManager(ctx context.Context, _ dockerView) ([]concern, error) {
	unit, err := s.Host.Systemd().Unit(ctx, networkManagerUnit)
	if err != nil || unit.Active != "active" || s.Host.Exists(networkManagerPath) || s.Host.Exists(networkManagerDir) {
		return nil, err
	}
	return warningOf("networkmanager", "NetworkManager", "running, and "+networkManagerDir+" is not there", "cali* and tunl* unmanaged",
		"tell it in its own configuration: unmanaged-devices=interface-name:cali*;interface-name:tunl*"), nil
}

const nodenamePath = "/var/lib/calico/nodename"

// bakedNodename finds the identity of the machine that an image was taken of.
func (s preflight) bakedNodename(context.Context, dockerView) ([]concern, error) {
	data, err := s.Host.ReadFile(nodenamePath)
	if host.NotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	seen := strings.TrimSpace(string(data))
	if seen == "" || seen == s.nodeName() {
		return nil, nil
	}
	return concernOf("baked-nodename", nodenamePath, fmt.Sprintf("%q", seen), fmt.Sprintf("%q, or no such file", s.nodeName()),
		"rm "+nodenamePath+"; firstboot seal does it when an image is made"), nil
}
