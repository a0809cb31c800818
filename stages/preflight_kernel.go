package stages

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/host"
	kernel "github.com/projecteru2/firstboot/internal/sysctl"
)

// kernelModules checks that the sysctl stage can load its modules: an image with
// another kernel's modules is a common mistake.
func (s preflight) kernelModules(ctx context.Context, _ dockerState) ([]finding, error) {
	var missing []string
	for _, m := range modules(s.Config) {
		if !s.provides(m) && !s.loadable(ctx, m) {
			missing = append(missing, m)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return newFinding("kernel-modules", "kernel modules", "not found: "+strings.Join(missing, ", "), "loaded, or found by modprobe",
		"install the modules of the running kernel (uname -r)"), nil
}

// sysctlKeys finds keys that the sysctl stage could not set.
func (s preflight) sysctlKeys(_ context.Context, d dockerState) ([]finding, error) {
	var found []finding
	values := s.settings(d.mode)
	for _, key := range keys(values) {
		want := kernel.Normalize(values[key])
		k := s.readKey(key)
		refuse := func(actual, expected, fix string) {
			found = append(found, newFinding("sysctl", key, actual, expected, fix)...)
		}
		switch {
		case k.missing && s.madeByModule(key), k.writeOnly, k.err != nil:
		case k.missing:
			refuse("the kernel has no such key", want, s.missingKeyFix(key))
		case k.is(want):
		case k.noIPv6:
			refuse("the kernel has no IPv6", want, s.missingKeyFix(key))
		case k.readOnly:
			refuse("read-only, "+orNone(k.value), want, "remove the key from sysctl in the configuration")
		case !acceptable(k.value, want):
			refuse(k.value, want, "set as many numbers as the kernel prints, or remove the key from sysctl in the configuration")
		}
	}
	return found, nil
}

// madeByModule reports whether a module that the sysctl stage loads may make the
// key.
func (s preflight) madeByModule(key string) bool {
	switch {
	case strings.HasPrefix(key, "net.netfilter."), key == "net.nf_conntrack_max":
		return !s.provides("nf_conntrack")
	case strings.HasPrefix(key, "net.ipv4.conf.tunl0."):
		return slices.Contains(modules(s.Config), "ipip") && !s.provides("ipip")
	}
	return false
}

// acceptable reports whether the kernel can accept want as the value of a key:
// if the present value has only numbers, want has at most as many.
func acceptable(have, want string) bool {
	numbers, ok := kernel.Numbers(have)
	if !ok {
		return true
	}
	wanted, ok := kernel.Numbers(want)
	return ok && len(wanted) <= len(numbers)
}

// appArmor checks for apparmor_parser if AppArmor is enabled. Without it Docker
// starts only privileged containers (measured).
func (s preflight) appArmor(context.Context, dockerState) ([]finding, error) {
	on, err := s.Host.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || !strings.HasPrefix(string(on), "Y") {
		return nil, nil //nolint:nilerr // a kernel without AppArmor has no such file
	}
	if _, ok := s.Host.LookPath("apparmor_parser"); ok {
		return nil, nil
	}
	return newFinding("apparmor-parser", "AppArmor", "enabled, without apparmor_parser", "apparmor_parser, which Docker needs to start containers",
		"install the package apparmor, or boot with apparmor=0"), nil
}

// forwardPolicy warns if the firewall drops forwarded packets. Docker sets the
// same policy, together with rules that accept the traffic of its containers.
func (s preflight) forwardPolicy(ctx context.Context, _ dockerState) ([]finding, error) {
	if _, ok := s.Host.LookPath("iptables"); !ok {
		return nil, nil
	}
	out, err := s.Host.Query(ctx, host.Command{Name: "iptables", Args: []string{"-w", "5", "-S", "FORWARD"}, Timeout: 20 * time.Second})
	rules := string(out.Stdout)
	if err != nil || !strings.Contains(rules, "-P FORWARD DROP") || strings.Contains(rules, "DOCKER-USER") || strings.Contains(rules, "cali-FORWARD") {
		return nil, nil //nolint:nilerr // no warning if the rules cannot be listed
	}
	return newWarning("forward-policy", "iptables FORWARD", "policy DROP", "ACCEPT, or a rule for cali+",
		"other hosts may not reach the containers: iptables -P FORWARD ACCEPT"), nil
}

// networkManager checks that the config stage can exclude Calico's interfaces
// from NetworkManager.
func (s preflight) networkManager(ctx context.Context, _ dockerState) ([]finding, error) {
	if s.Host.Exists(networkManagerDir) {
		file, err := managerOverride(s.Host)
		if err != nil || file == "" {
			return nil, err
		}
		return newFinding("networkmanager", file, "replaces the list of unmanaged devices", "cali* and tunl* unmanaged", managerOverrideFix(file)), nil
	}
	unit, err := s.Host.Systemd().Unit(ctx, networkManagerUnit)
	if err != nil || unit.Active != "active" {
		return nil, err
	}
	return newWarning("networkmanager", "NetworkManager", "running, but "+networkManagerDir+" does not exist", "cali* and tunl* unmanaged",
		"add to its configuration: unmanaged-devices+=interface-name:cali*;interface-name:tunl*"), nil
}

// bakedNodename finds the node name of the machine from which an image was
// made.
func (s preflight) bakedNodename(context.Context, dockerState) ([]finding, error) {
	data, err := s.Host.ReadFile(calico.NodenamePath)
	if host.NotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	name := strings.TrimSpace(string(data))
	if name == "" || name == s.nodeName() {
		return nil, nil
	}
	return newFinding("baked-nodename", calico.NodenamePath, fmt.Sprintf("%q", name), fmt.Sprintf("%q, or no such file", s.nodeName()),
		"rm "+calico.NodenamePath+"; in an image, firstboot seal removes it"), nil
}
