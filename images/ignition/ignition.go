// Package ignition renders Ignition configs of spec 3.3.0 that pass a configuration
// to firstboot. It uses Ignition's own types, merge and validator.
package ignition

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/util"
	"github.com/coreos/ignition/v2/config/v3_3/types"
	"github.com/coreos/vcontext/report"
	"github.com/vincent-petithory/dataurl"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

// Options select what else the config does.
type Options struct {
	// Install is the static binary to install; nil if the image has firstboot.
	Install *images.Remote
	// Hostname is written to /etc/hostname, unless it is empty.
	Hostname string
	// Merge is an Ignition config of spec 3.0 to 3.3 to merge this one into. It may
	// be nil.
	Merge []byte
}

// Rendered is a valid Ignition config. It contains the configuration's secrets.
type Rendered struct {
	Config   types.Config
	JSON     []byte
	Warnings []string // of the validator, and about resources of Merge that are not verified
}

// Render returns the config.
func Render(loaded *config.Loaded, o Options) (Rendered, error) {
	ours := types.Config{Ignition: types.Ignition{Version: types.MaxVersion.String()}}
	ours.Storage.Files = []types.File{inline(config.MainFile, loaded.Explicit(), 0o600)}
	if o.Hostname != "" {
		ours.Storage.Files = append(ours.Storage.Files, inline("/etc/hostname", []byte(o.Hostname+"\n"), 0o644))
	}
	if err := addFirstboot(&ours, o.Install); err != nil {
		return Rendered{}, err
	}
	var warnings []string
	if o.Merge != nil {
		theirs, found, err := parse(o.Merge)
		if err != nil {
			return Rendered{}, err
		}
		replaced := removeReplaced(&theirs, ours) // what ours replaces does no harm
		overriding, err := checkConflicts(theirs, ours)
		if err != nil {
			return Rendered{}, err
		}
		warnings = slices.Concat(found, replaced, overriding, unverified(theirs))
		if ours, err = merged(theirs, ours); err != nil {
			return Rendered{}, err
		}
	}
	return finish(ours, warnings)
}

// finish writes a config as JSON and validates it with Ignition's validator.
func finish(c types.Config, warnings []string) (Rendered, error) {
	tree, err := sparse(c)
	if err != nil {
		return Rendered{}, fmt.Errorf("cannot write the Ignition config: %w", err)
	}
	data, err := json.MarshalIndent(tree, "", "  ")
	if err != nil {
		return Rendered{}, fmt.Errorf("cannot write the Ignition config: %w", err)
	}
	checked, found, err := validated(data)
	if err != nil {
		return Rendered{}, invalid("cannot render an Ignition config", found, err)
	}
	return Rendered{Config: checked, JSON: append(data, '\n'), Warnings: append(warnings, lines(found)...)}, nil
}

// addFirstboot enables the units. With install it also adds the binary and the
// units.
func addFirstboot(c *types.Config, install *images.Remote) error {
	if install == nil {
		for _, name := range []string{units.Service, units.Target} {
			c.Systemd.Units = append(c.Systemd.Units, types.Unit{Name: name, Enabled: util.BoolToPtr(true)})
		}
		return nil
	}
	if err := install.Check("--install", "--sha256"); err != nil {
		return err
	}
	if ext := install.Ext(); slices.Contains([]string{".rpm", ".deb", ".gz", ".xz", ".zst", ".tar", ".tgz", ".zip"}, ext) {
		return engine.WithHint(fmt.Errorf("cannot install a %s file with Ignition", ext), "Ignition writes files and runs no programs: serve the static binary")
	}
	binary := file("/usr/bin/firstboot", 0o755)
	binary.Contents = types.Resource{
		Source:       util.StrToPtr(install.URL.Reveal()),
		Verification: types.Verification{Hash: util.StrToPtr("sha256-" + install.SHA256)},
	}
	c.Storage.Files = append(c.Storage.Files, binary)
	for _, f := range units.HostFiles() {
		name := path.Base(f.Path)
		unit := types.Unit{Name: name, Contents: util.StrToPtr(string(f.Data))}
		if units.Enabled()[name] == "" {
			c.Systemd.Units = append(c.Systemd.Units, unit) // the run starts it
			continue
		}
		unit.Enabled = util.BoolToPtr(true)
		c.Systemd.Units = append(c.Systemd.Units, unit)
		// systemd applies presets only if it detects a first boot. The link enables
		// the unit on every image.
		c.Storage.Links = append(c.Storage.Links, types.Link{
			Node:          node(units.AdminDir + "/" + units.Enabled()[name] + ".wants/" + name),
			LinkEmbedded1: types.LinkEmbedded1{Target: util.StrToPtr(units.AdminDir + "/" + name)},
		})
	}
	return nil
}

func node(name string) types.Node {
	return types.Node{Path: name, Overwrite: util.BoolToPtr(true)}
}

func file(name string, mode int) types.File {
	return types.File{Node: node(name), FileEmbedded1: types.FileEmbedded1{Mode: util.IntToPtr(mode)}}
}

// inline returns a file with its content in a data URL.
func inline(name string, data []byte, mode int) types.File {
	f := file(name, mode)
	f.Contents.Source, f.Contents.Compression = util.StrToPtr("data:,"+dataurl.Escape(data)), util.StrToPtr("")
	return f
}

// invalid returns an error with the validator's findings, or with err if there are
// none.
func invalid(what string, found report.Report, err error) error {
	all := lines(found)
	if len(all) == 0 {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %s", what, strings.Join(all, "; "))
}

// lines returns a validator's findings, each with its position.
func lines(found report.Report) []string {
	var all []string
	for _, e := range found.Entries {
		all = append(all, e.String())
	}
	return all
}
