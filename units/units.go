// Package units contains the systemd units and drop-ins, their paths on a host,
// and which of them an image enables.
package units

import (
	"embed"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/state"
)

//go:embed files
var files embed.FS

// The names of the units and the paths of their files.
const (
	Service    = "firstboot.service"
	Target     = "firstboot-complete.target"
	Minions    = "eru-minions.service"
	Docker     = "docker.service"
	CalicoNode = "calico-node.service"
	// DiskService writes a disk from a live root. Nothing enables it.
	DiskService = "firstboot-disk.service"
	// ReportService posts a run's report to report.url. The run starts it.
	ReportService = "firstboot-report.service"
	// AdapterSocket is the socket on which Docker calls the network plugin of a
	// host with a local network. A run enables it.
	AdapterSocket = "firstboot-adapter.socket"
	// AdapterService answers on AdapterSocket. A run enables it.
	AdapterService = "firstboot-adapter.service"
	// EtcdTunnel is the tunnel to an etcd with TLS. A run enables it if the
	// configuration has https endpoints.
	EtcdTunnel = "firstboot-etcd.service"

	// Dir contains the units of an image or a package.
	Dir = "/usr/lib/systemd/system"
	// AdminDir contains the units of this host.
	AdminDir = "/etc/systemd/system"
	// PresetPath enables firstboot's units if presets are applied.
	PresetPath = "/usr/lib/systemd/system-preset/90-firstboot.preset"

	// AdapterEnabledPath exists while AdapterSocket is enabled.
	AdapterEnabledPath = AdminDir + "/sockets.target.wants/" + AdapterSocket

	MinionsDropIn  = AdminDir + "/eru-minions.service.d/10-firstboot.conf"
	DockerDropIn   = AdminDir + "/docker.service.d/10-firstboot.conf"
	CalicoNodePath = AdminDir + "/" + CalicoNode
	// CalicoNodeEnv holds node.environment, for docker run --env-file.
	CalicoNodeEnv = state.Dir + "/calico-node.env"
	// DockerConfigDir is the --config of every docker command that firstboot
	// runs. It never exists: docker then uses its defaults instead of root's
	// proxies, credential helpers and contexts.
	DockerConfigDir = state.Dir + "/docker"
)

// File is a unit file and its path on a host.
type File struct {
	Path string
	Data []byte
}

// ImageFiles returns the files of an image: firstboot's own units and their
// preset. The stage node writes and enables calico-node.service.
func ImageFiles() []File {
	return []File{
		{Dir + "/" + Service, read(Service)},
		{Dir + "/" + Target, read(Target)},
		{Dir + "/" + DiskService, read(DiskService)},
		{Dir + "/" + ReportService, read(ReportService)},
		{Dir + "/" + AdapterSocket, read(AdapterSocket)},
		{Dir + "/" + AdapterService, read(AdapterService)},
		{Dir + "/" + EtcdTunnel, read(EtcdTunnel)},
		{PresetPath, read("90-firstboot.preset")},
	}
}

// HostFiles returns the units that a run needs on its host: those of ImageFiles
// without the unit of a live root and without the preset.
func HostFiles() []File {
	return slices.DeleteFunc(ImageFiles(), func(f File) bool {
		return f.Path == PresetPath || strings.HasSuffix(f.Path, "/"+DiskService)
	})
}

// Enabled returns the units that an image enables, each with the target that
// wants it.
func Enabled() map[string]string {
	return map[string]string{Service: "multi-user.target", Target: "multi-user.target"}
}

// EnabledByRun returns the units of ImageFiles that a run enables on a host that
// needs them, each with the unit that wants it: the adapter of a local network,
// and the tunnel to an etcd with TLS.
func EnabledByRun() map[string]string {
	return map[string]string{AdapterSocket: "sockets.target", AdapterService: Docker, EtcdTunnel: Minions}
}

// DropIns returns the drop-ins that order the plugin before Docker at every boot.
func DropIns() []File {
	return []File{
		{MinionsDropIn, read("eru-minions.conf")},
		{DockerDropIn, read("docker.conf")},
	}
}

// LocalDropIns is DropIns of a host with a local network, on which the adapter has
// the socket that Docker calls.
func LocalDropIns() []File {
	list := DropIns()
	list[0].Data = slices.Concat(list[0].Data, read("eru-minions-local.conf"))
	return list
}

// NodeUnit returns the unit that runs `docker run` with args, of which the last
// is the image. It starts only on this machine, whose name and address are among
// args.
func NodeUnit(docker, container string, machine state.Machine, args []string) (File, error) {
	text, err := files.ReadFile("files/calico-node.service.tmpl")
	if err != nil {
		return File{}, fmt.Errorf("cannot render %s: %w", CalicoNode, err)
	}
	docker += " --config=" + DockerConfigDir
	var run, image, onMachine, onProduct string
	for _, arg := range args {
		run += " " + Quote(arg)
	}
	if len(args) > 0 {
		image = "# If the verified image was removed, docker run would pull another one.\n" +
			"ExecStartPre=" + docker + " image inspect --format={{.Id}} " + Quote(args[len(args)-1]) + "\n"
	}
	if id := matching(machineID, machine.MachineID); id != "" {
		onMachine = "# Start only on the machine that this unit was written for: a clone of the disk\n" +
			"# would take this node's name and address. firstboot writes a new unit there.\n" +
			"ConditionHost=" + id + "\n"
	}
	if uuid := matching(productUUID, machine.ProductUUID); uuid != "" {
		onProduct = "# The same for clones with the same machine-id.\n" +
			"ExecCondition=/bin/sh -c '! test -r " + productFile + " || grep -qix " + uuid + " " + productFile + "'\n"
	}
	unit := strings.NewReplacer("@MACHINE-ID@", onMachine, "@PRODUCT-UUID@", onProduct, "@DOCKER@", docker,
		"@NAME@", container, "@IMAGE@", image, "@ARGS@", run).Replace(string(text))
	return File{CalicoNodePath, []byte(unit)}, nil
}

// productFile contains the product UUID of the machine's firmware.
const productFile = "/sys/class/dmi/id/product_uuid"

// The forms of a machine-id (machine-id(5)) and a product UUID (SMBIOS 7.2.1).
var (
	machineID   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	productUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// matching returns text if it matches form, else "". Firmware can contain any text.
func matching(form *regexp.Regexp, text string) string {
	if form.MatchString(text) {
		return text
	}
	return ""
}

// Quote quotes text as one word of a command line in systemd.service(5).
// Specifiers, variables, quotes and blanks lose their meaning.
func Quote(text string) string {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(text)
	if quoted == text && text != "" && !strings.ContainsAny(text, " '*?;") {
		return text
	}
	return `"` + quoted + `"`
}

// read returns an embedded file, or nil if it is missing, which the package's
// test detects.
func read(name string) []byte {
	data, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil
	}
	return data
}
