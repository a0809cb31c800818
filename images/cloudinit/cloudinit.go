// Package cloudinit renders user-data that passes a configuration to firstboot
// through cloud-init. For an image without firstboot the user-data also installs it.
// The package knows cloud-init's formats and does not interpret the configuration.
package cloudinit

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"

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

// install describes the file to install, for the templates.
type install struct {
	URL, SHA256 string
	Package     string // package format: rpm or deb; "" for the binary
	Units       []units.File
}

// UserData returns a #cloud-config. It contains the configuration's secrets.
func UserData(loaded *config.Loaded, o Options) ([]byte, error) {
	view := struct {
		Config             string
		WriteFiles, Secret bool
		Install            *install
		Script, Unit       string
	}{Config: string(loaded.Explicit()), WriteFiles: o.WriteFiles, Secret: loaded.HoldsSecrets()}
	if o.Install != nil {
		in, err := newInstall(*o.Install)
		if err != nil {
			return nil, err
		}
		view.Install = in
		if view.Script, err = render("install.sh.tmpl", in); err != nil {
			return nil, err
		}
		if view.Unit, err = render("firstboot-install.service", nil); err != nil {
			return nil, err
		}
	}
	text, err := render("user-data.yaml", view)
	return []byte(text), err
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

// render executes a template.
func render(name string, view any) (string, error) {
	t, err := template.New(name).Funcs(template.FuncMap{
		"quote":  images.ShellQuote,
		"indent": func(spaces int, text string) string { return images.Indent(text, spaces) },
		"text":   func(b []byte) string { return string(b) },
	}).ParseFS(templates, "templates/"+name)
	if err != nil {
		return "", fmt.Errorf("cannot render %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, view); err != nil {
		return "", fmt.Errorf("cannot render %s: %w", name, err)
	}
	return out.String(), nil
}
