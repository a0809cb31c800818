package stages

import (
	"time"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// Diagnostic is a look at the machine for a bug report.
type Diagnostic struct {
	Name    string // of the file that it becomes
	Command host.Command
}

// diagnosticTime bounds one look: etcd or Docker may be what is broken.
const diagnosticTime = 20 * time.Second

// DiagnosticFiles are the files of a host that a bug report needs: none of them
// holds a secret. The plugin's and the node's environment are left out: the
// configuration says the same, masked.
func DiagnosticFiles() []string {
	return []string{
		calicoctlConfigPath, DaemonPath, linkPath, networkManagerPath, modulesPath, sysctlPath,
		units.MinionsDropIn, units.DockerDropIn, nodenamePath, "/etc/os-release", "/etc/hostname",
	}
}

// Diagnostics lists what a bug report asks the machine.
func Diagnostics() []Diagnostic {
	ask := func(name string, words ...string) Diagnostic {
		return Diagnostic{name, host.Command{Name: words[0], Args: words[1:], Timeout: diagnosticTime}}
	}
	list := []Diagnostic{
		ask("uname.txt", "uname", "-a"),
		ask("addresses.txt", "ip", "-brief", "address"),
		ask("routes.txt", "ip", "route"),
		ask("disk.txt", "df", "-h"),
		ask("failed-units.txt", "systemctl", "--failed", "--no-pager"),
		ask("units.txt", "systemctl", "status", "--no-pager", "--lines=0", units.Service, units.Target, units.Docker, units.Minions, units.CalicoNode),
		ask("docker-version.txt", "docker", "version"),
		ask("docker-info.txt", "docker", "info"),
		ask("containers.txt", "docker", "ps", "--all"),
		ask("networks.txt", "docker", "network", "ls"),
		ask("package.txt", "rpm", "-qi", minionsPackage),
		ask("node-status.txt", CalicoctlPath, "node", "status"),
		ask("pools.txt", CalicoctlPath, "get", "ippools", "-o", "yaml", "--config="+calicoctlConfigPath),
		ask("nodes.txt", CalicoctlPath, "get", "nodes", "-o", "wide", "--config="+calicoctlConfigPath),
		ask("bgp.txt", "docker", "exec", nodeContainer, "birdcl", "-s", "/var/run/calico/bird.ctl", "show", "protocols"),
	}
	for _, unit := range []string{units.Docker, units.Minions, units.CalicoNode} {
		list = append(list, ask("journal-"+unit+".txt", "journalctl", "--no-pager", "--output=short-iso", "--lines=3000", "--unit="+unit))
	}
	return list
}
