package stages

import (
	"time"

	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// Diagnostic is a command whose output goes into a bug report.
type Diagnostic struct {
	Name    string // of the file with the output
	Command host.Command
}

// diagnosticTimeout bounds one command: it may hang if etcd or Docker is broken.
const diagnosticTimeout = 20 * time.Second

// DiagnosticFiles lists the files that a bug report contains. Only daemon.json can
// contain secrets, which the report masks. The environment of the plugin and the
// node is left out: the report contains it in the configuration, with secrets
// masked.
func DiagnosticFiles() []string {
	return []string{
		calicoctlConfigPath, dockerd.ConfigPath, linkPath, networkManagerPath, modulesPath, sysctlPath,
		units.MinionsDropIn, units.DockerDropIn, nodenamePath, "/etc/os-release", "/etc/hostname",
	}
}

// Diagnostics lists the commands whose output a bug report contains.
func Diagnostics() []Diagnostic {
	command := func(file, name string, args ...string) Diagnostic {
		return Diagnostic{file, host.Command{Name: name, Args: args, Timeout: diagnosticTimeout}}
	}
	docker := func(file string, args ...string) Diagnostic {
		return command(file, "docker", append([]string{"--config=" + units.DockerConfigDir}, args...)...)
	}
	list := []Diagnostic{
		command("uname.txt", "uname", "-a"),
		command("addresses.txt", "ip", "-brief", "address"),
		command("routes.txt", "ip", "route"),
		command("disk.txt", "df", "-h"),
		command("failed-units.txt", "systemctl", "--failed", "--no-pager"),
		command("units.txt", "systemctl", "status", "--no-pager", "--lines=0", units.Service, units.Target, units.Docker, units.Minions, units.CalicoNode),
		docker("docker-version.txt", "version"),
		docker("docker-info.txt", "info"),
		docker("containers.txt", "ps", "--all"),
		docker("networks.txt", "network", "ls"),
		command("package.txt", "rpm", "-qi", minionsPackage),
		command("node-status.txt", CalicoctlPath, "node", "status"),
		command("pools.txt", CalicoctlPath, "get", "ippools", "-o", "yaml", "--config="+calicoctlConfigPath),
		command("nodes.txt", CalicoctlPath, "get", "nodes", "-o", "wide", "--config="+calicoctlConfigPath),
		docker("bgp.txt", "exec", nodeContainer, "birdcl", "-s", "/var/run/calico/bird.ctl", "show", "protocols"),
	}
	for _, unit := range []string{units.Docker, units.Minions, units.CalicoNode} {
		list = append(list, command("journal-"+unit+".txt", "journalctl", "--no-pager", "--output=short-iso", "--lines=3000", "--unit="+unit))
	}
	return list
}
