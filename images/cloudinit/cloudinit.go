// Package cloudinit renders user-data that passes a configuration to firstboot
// through cloud-init. For an image without firstboot the user-data also installs it.
// The package knows cloud-init's formats and does not interpret the configuration.
package cloudinit

import (
	"embed"
	"fmt"
	"strings"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

//go:embed templates
var templates embed.FS

// SmallestLimit is the smallest limit on the size of user-data, in bytes: EC2's
// 16 KiB.
const SmallestLimit = 16 << 10

// Options select how the configuration is passed.
type Options struct {
	// Install is the file from which a stock image installs firstboot: the static
	// binary or a package (.rpm, .deb). nil if the image has firstboot.
	Install *images.Remote
	// WriteFiles puts the configuration into write_files instead of the key
	// firstboot:, which cloud-init releases after 22.4 report as unknown.
	WriteFiles bool
}

// install describes the file to install.
type install struct {
	URL, SHA256 string
	Package     string // package format: rpm or deb; "" for the binary
	Units       []units.File
}

// UserData returns a #cloud-config. It contains the configuration's secrets.
func UserData(loaded *config.Loaded, o Options) ([]byte, error) {
	var in *install
	if o.Install != nil {
		var err error
		if in, err = newInstall(*o.Install); err != nil {
			return nil, err
		}
	}
	return []byte(render(string(loaded.Explicit()), o.WriteFiles, loaded.HoldsSecrets(), in)), nil
}

// render returns a #cloud-config with a configuration. in is nil if the image has
// firstboot.
func render(configuration string, writeFiles, secret bool, in *install) string {
	var b strings.Builder
	b.WriteString("#cloud-config\n# Written by firstboot render cloud-init.\n")
	if writeFiles {
		b.WriteString("write_files:\n  - path: /etc/firstboot/config.yaml\n    owner: root:root\n    permissions: \"0600\"\n    content: |\n")
		b.WriteString(images.Indent(configuration, 6))
	} else {
		b.WriteString("# cloud-init stores this key in a file for root only; firstboot reads it there.\nfirstboot:\n")
		b.WriteString(images.Indent(configuration, 2))
	}
	private := writeFiles && secret
	if private || in != nil {
		b.WriteString("bootcmd:\n")
	}
	if private {
		b.WriteString("  # write_files sets a file's mode only after it has written the file.\n  - [mkdir, -p, -m, \"0700\", /etc/firstboot]\n")
	}
	if in != nil {
		b.WriteString(in.bootcmd())
	}
	return b.String()
}

// newInstall checks the file and selects how it is installed, by its extension.
func newInstall(from images.Remote) (*install, error) {
	if err := from.Check("--install", "--sha256"); err != nil {
		return nil, err
	}
	in := &install{URL: from.URL.Reveal(), SHA256: from.SHA256}
	switch ext := from.Ext(); ext {
	case ".rpm", ".deb":
		in.Package = strings.TrimPrefix(ext, ".")
	case ".gz", ".xz", ".zst", ".zip", ".tar", ".tgz":
		return nil, engine.WithHint(fmt.Errorf("cannot install a %s file", ext), "serve the static binary, or the .rpm or .deb package")
	default:
		in.Units = units.HostFiles()
	}
	return in, nil
}

// bootcmd returns the entry of bootcmd that writes and starts the script.
func (in *install) bootcmd() string {
	return strings.NewReplacer("@SHA256@", in.SHA256, "@SCRIPT@", images.Indent(in.script(), 4),
		"@UNIT@", images.Indent(read("firstboot-install.service"), 4)).Replace(read("bootcmd.yaml"))
}

// script returns the script that downloads and installs firstboot.
func (in *install) script() string {
	return strings.NewReplacer("@URL@", images.ShellQuote(in.URL), "@SHA256@", in.SHA256,
		"@INSTALL-FILE@", in.installFile()).Replace(read("install.sh"))
}

// installFile returns the script's function that installs the verified file.
func (in *install) installFile() string {
	switch in.Package {
	case "rpm":
		return `
install_file() { rpm -U --replacepkgs "$file" && rm -f "$file"; }`
	case "deb":
		return `
install_file() { DEBIAN_FRONTEND=noninteractive dpkg --force-confold --install "$file" && rm -f "$file"; }`
	}
	var b strings.Builder
	b.WriteString(`
write_unit() {
  cat >"$1.new" && chmod 0644 "$1.new" && sync && mv -f "$1.new" "$1"
}

install_file() {
  mkdir -p /usr/lib/systemd/system &&
`)
	for _, f := range in.Units {
		b.WriteString("    write_unit " + f.Path + " <<'END-OF-UNIT' &&\n" + string(f.Data) + "END-OF-UNIT\n")
	}
	b.WriteString(`    chmod 0755 "$file" && sync && mv -f "$file" /usr/bin/firstboot
}`)
	return b.String()
}

// read returns an embedded file, or "" if it is missing, which the package's tests
// detect.
func read(name string) string {
	data, err := templates.ReadFile("templates/" + name)
	if err != nil {
		return ""
	}
	return string(data)
}
