// Package ignition renders Ignition configs of spec 3.3.0 that hand a
// configuration to firstboot, with Ignition's own types, merge and validator.
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

// Options say what else the config does.
type Options struct {
	// Install is where an image without firstboot gets the static binary
	// from; nil: the image has firstboot.
	Install *images.Remote
	// Hostname is written to /etc/hostname; empty: left alone.
	Hostname string
	// Merge is an Ignition config, of spec 3.0 to 3.3, that this one is merged
	// into; nil: none.
	Merge []byte
}

// Rendered is a valid Ignition config. It holds the configuration's secrets.
type Rendered struct {
	Config   types.Config
	JSON     []byte
	Warnings []string // the validator's, and remote resources of Merge without a hash
}

// Render makes the config.
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
		theirs, notes, err := parse(o.Merge)
		if err != nil {
			return Rendered{}, err
		}
		warnings = slices.Concat(notes, giveWay(&theirs, ours), unverified(theirs))
		if ours, err = merged(theirs, ours); err != nil {
			return Rendered{}, err
		}
	}
	return finish(ours, warnings)
}

// finish serialises a config, and has Ignition's validator read it back.
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

// addFirstboot enables the units, and brings binary and units where the image
// has none.
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
		return engine.WithHint(fmt.Errorf("cannot install a %s file by Ignition", ext), "it writes files and runs nothing: serve the static binary")
	}
	binary := file("/usr/bin/firstboot", 0o755)
	binary.Contents = types.Resource{
		Source:       util.StrToPtr(install.URL.Reveal()),
		Verification: types.Verification{Hash: util.StrToPtr("sha256-" + install.SHA256)},
	}
	c.Storage.Files = append(c.Storage.Files, binary)
	for _, f := range units.ImageFiles() {
		name := path.Base(f.Path)
		if units.Enabled()[name] == "" {
			continue
		}
		c.Systemd.Units = append(c.Systemd.Units, types.Unit{
			Name: name, Enabled: util.BoolToPtr(true), Contents: util.StrToPtr(string(f.Data)),
		})
		// Presets are only applied on what systemd takes for a first boot; the
		// link enables the unit on every image.
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

func inline(name string, data []byte, mode int) types.File {
	f := file(name, mode)
	f.Contents.Source, f.Contents.Compression = util.StrToPtr("data:,"+dataurl.Escape(data)), util.StrToPtr("")
	return f
}

func invalid(what string, found report.Report, err error) error {
	all := lines(found)
	if len(all) == 0 {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %s", what, strings.Join(all, "; "))
}

// lines are a validator's findings, each with its place.
func lines(found report.Report) []string {
	var all []string
	for _, e := range found.Entries {
		all = append(all, e.String())
	}
	return all
}
