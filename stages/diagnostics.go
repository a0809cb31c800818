package stages

import (
	"time"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/calico"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/minions"
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
		calico.CtlConfigPath, dockerd.ConfigPath, calico.LinkPath, networkManagerPath, modulesPath, sysctlPath,
		units.MinionsDropIn, units.DockerDropIn, adapter.Path, calico.NodenamePath, "/etc/os-release", "/etc/hostname",
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
		command("units.txt", "systemctl", "status", "--no-pager", "--lines=0", units.Service, units.Target, units.Docker, units.Minions, units.CalicoNode,
			units.AdapterSocket, units.AdapterService, units.EtcdTunnel),
		docker("docker-version.txt", "version"),
		docker("docker-info.txt", "info"),
		docker("containers.txt", "ps", "--all"),
		docker("networks.txt", "network", "ls"),
		command("package.txt", "rpm", "-qi", minions.Package),
		command("node-status.txt", calico.CtlPath, "node", "status"),
		command("pools.txt", calico.CtlPath, "get", "ippools", "-o", "yaml", "--config="+calico.CtlConfigPath),
		command("nodes.txt", calico.CtlPath, "get", "nodes", "-o", "wide", "--config="+calico.CtlConfigPath),
		docker("bgp.txt", "exec", calico.NodeContainer, "birdcl", "-s", "/var/run/calico/bird.ctl", "show", "protocols"),
	}
	for _, unit := range []string{units.Docker, units.Minions, units.CalicoNode, units.AdapterService, units.EtcdTunnel} {
		list = append(list, command("journal-"+unit+".txt", "journalctl", "--no-pager", "--output=short-iso", "--lines=3000", "--unit="+unit))
	}
	return list
}
