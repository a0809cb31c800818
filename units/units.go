// Package units holds the systemd units and drop-ins as files, and says where
// they go on a host and which of them an image enables.
package units

import (
	"bytes"
	"embed"
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"github.com/projecteru2/firstboot/internal/state"
)

//go:embed files
var files embed.FS

// The units' names and the places of unit files.
const (
	Service    = "firstboot.service"
	Target     = "firstboot-complete.target"
	Minions    = "eru-minions.service"
	Docker     = "docker.service"
	CalicoNode = "calico-node.service"
	// DiskService writes a disk from a live root; nothing enables it.
	DiskService = "firstboot-disk.service"

	// Dir holds units that come with an image or a package.
	Dir = "/usr/lib/systemd/system"
	// AdminDir holds units of this one host.
	AdminDir = "/etc/systemd/system"
	// PresetPath enables firstboot's units where presets are applied.
	PresetPath = "/usr/lib/systemd/system-preset/90-firstboot.preset"

	MinionsDropIn  = AdminDir + "/eru-minions.service.d/10-firstboot.conf"
	DockerDropIn   = AdminDir + "/docker.service.d/10-firstboot.conf"
	CalicoNodePath = AdminDir + "/" + CalicoNode
)

// File is a unit file and where it goes.
type File struct {
	Path string
	Data []byte
}

// Image lists what an image carries: firstboot's own units and their preset.
// calico-node is not among them: only the stage that made it right enables it.
func ImageFiles() []File {
	return []File{
		{Dir + "/" + Service, read(Service)},
		{Dir + "/" + Target, read(Target)},
		{Dir + "/" + DiskService, read(DiskService)},
		{PresetPath, read("90-firstboot.preset")},
	}
}

// Enabled lists the units that an image enables, each with the target that
// wants it.
func Enabled() map[string]string {
	return map[string]string{Service: "multi-user.target", Target: "multi-user.target"}
}

// DropIns lists what orders the plugin before Docker at every boot.
func DropIns() []File {
	return []File{
		{MinionsDropIn, read("eru-minions.conf")},
		{DockerDropIn, read("docker.conf")},
	}
}

// NodeUnit is the calico-node unit that runs `docker run` with args, and only
// on this machine: args hold its name and address.
func NodeUnit(docker, container string, machine state.Machine, args []string) (File, error) {
	t, err := template.New("node").Funcs(template.FuncMap{"quote": Quote}).Parse(string(read("calico-node.service.tmpl")))
	if err != nil {
		return File{}, fmt.Errorf("cannot make %s: %w", CalicoNode, err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Docker": docker, "Name": container, "Args": args,
		"MachineID": only(machineID, machine.MachineID), "ProductUUID": only(productUUID, machine.ProductUUID),
	})
	if err != nil {
		return File{}, fmt.Errorf("cannot make %s: %w", CalicoNode, err)
	}
	return File{CalicoNodePath, out.Bytes()}, nil
}

// What machine-id(5) and the firmware (SMBIOS 7.2.1) call a machine.
var (
	machineID   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	productUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// only returns text if it has the form; firmware can tell anything.
func only(form *regexp.Regexp, text string) string {
	if form.MatchString(text) {
		return text
	}
	return ""
}

// Quote makes one word of a command line of systemd.service(5) stand for
// exactly text: specifiers, variables, quotes and blanks lose their meaning.
func Quote(text string) string {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(text)
	if quoted == text && text != "" && !strings.ContainsAny(text, " '*?;") {
		return text
	}
	return `"` + quoted + `"`
}

// read returns an embedded file; a missing one is a mistake of the build that
// the package's test finds.
func read(name string) []byte {
	data, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil
	}
	return data
}
