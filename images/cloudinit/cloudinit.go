// Package cloudinit renders user-data that hands a configuration to firstboot
// by way of cloud-init, and, where the image has no firstboot, installs it
// first. It knows cloud-init's formats; the configuration it passes on as it is.
package cloudinit

import (
	"bytes"
	"embed"
	"fmt"
	"path"
	"strings"
	"text/template"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

//go:embed templates
var templates embed.FS

// SmallestLimit is what the strictest datasource takes of user-data, in bytes:
// EC2's 16 KiB.
const SmallestLimit = 16 << 10

// Options say how the configuration travels.
type Options struct {
	// Install is where a stock image gets firstboot from: the static binary,
	// or a package (.rpm, .deb) of it. nil: the image has firstboot.
	Install *images.Remote
	// WriteFiles carries the configuration in write_files instead of the key
	// firstboot:, which cloud-init releases after 22.4 flag as unknown.
	WriteFiles bool
}

// install is how a kind of file is installed.
type install struct {
	URL, SHA256 string
	Package     string // the package manager's name for it: rpm, deb; "": a binary
	Units       []units.File
}

// UserData is a #cloud-config. It holds the secrets of the configuration.
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

func newInstall(from images.Remote) (*install, error) {
	if err := from.Check("--install", "--sha256"); err != nil {
		return nil, err
	}
	in := &install{URL: from.URL.Reveal(), SHA256: from.SHA256}
	switch ext := from.Ext(); ext {
	case ".rpm", ".deb":
		in.Package = strings.TrimPrefix(ext, ".")
	case ".gz", ".xz", ".zst", ".zip", ".tar", ".tgz":
		return nil, engine.WithHint(fmt.Errorf("cannot install a %s file", ext), "serve the static binary itself, or its .rpm or .deb")
	default:
		for _, f := range units.ImageFiles() {
			if units.Enabled()[path.Base(f.Path)] != "" { // by the installer itself
				in.Units = append(in.Units, f)
			}
		}
	}
	return in, nil
}

// render fills one template.
func render(name string, view any) (string, error) {
	t, err := template.New(name).Funcs(template.FuncMap{
		"quote":  images.ShellQuote,
		"indent": func(blanks int, text string) string { return images.Indent(text, blanks) },
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
