package ignition

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/util"
	"github.com/coreos/ignition/v2/config/v3_3/types"
	"github.com/vincent-petithory/dataurl"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/units"
)

// presetOfIgnition is the file through which Ignition enables units. systemd uses the
// first matching line of all preset files in the order of their names.
const presetOfIgnition = "20-ignition.preset"

// checkConflicts reports an error for everything in the config of --merge that keeps
// firstboot from running. A warning names each file that overrides the configuration.
func checkConflicts(theirs, ours types.Config) (warnings []string, err error) {
	var found []string
	conflict := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if theirs.Ignition.Config.Replace.Source != nil {
		conflict("ignition.config.replace replaces the whole config")
	}
	for _, u := range theirs.Systemd.Units {
		switch {
		case u.Name == "docker.service" && util.IsTrue(u.Mask):
			warnings = append(warnings, "the config of --merge masks docker.service, which firstboot needs")
		case !isOurs(u.Name):
		case util.IsTrue(u.Mask):
			conflict("it masks %s", u.Name)
		case util.NotEmpty(u.Contents) && !hasContents(ours, u.Name):
			conflict("it replaces the unit %s", u.Name)
		}
	}
	for _, n := range nodes(theirs) {
		switch {
		case isProgramOrUnit(n):
			conflict("it overrides %s", n)
		case path.Dir(n) == config.DropInDir:
			warnings = append(warnings, n+" overrides this configuration")
		}
	}
	for _, f := range theirs.Storage.Files {
		if unit := disabledBy(f); unit != "" {
			conflict("%s disables %s", f.Path, unit)
		}
	}
	for _, arg := range theirs.KernelArguments.ShouldExist {
		if unit, ok := strings.CutPrefix(string(arg), "systemd.mask="); ok && isOurs(unit) {
			conflict("the kernel argument %s masks it", arg)
		}
	}
	if len(found) == 0 {
		return warnings, nil
	}
	return nil, engine.WithHint(errors.New("cannot merge the Ignition config: firstboot would not run: "+strings.Join(found, "; ")),
		"remove this from the file of --merge")
}

// hasContents reports whether a config has the text of a unit.
func hasContents(c types.Config, unit string) bool {
	return slices.ContainsFunc(c.Systemd.Units, func(u types.Unit) bool { return u.Name == unit && util.NotEmpty(u.Contents) })
}

// isOurs reports whether a unit is one of those that start firstboot.
func isOurs(unit string) bool { return units.Enabled()[unit] != "" }

// nodes returns the paths of the files, links and directories of a config.
func nodes(c types.Config) []string {
	var all []string
	for _, f := range c.Storage.Files {
		all = append(all, f.Path)
	}
	for _, l := range c.Storage.Links {
		all = append(all, l.Path)
	}
	for _, d := range c.Storage.Directories {
		all = append(all, d.Path)
	}
	return all
}

// isProgramOrUnit reports whether a path is firstboot's program or one of its units, in
// any of systemd's directories.
func isProgramOrUnit(name string) bool {
	name = path.Clean(name)
	dirs := []string{units.AdminDir, units.Dir, "/lib/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"}
	return name == "/usr/bin/firstboot" || isOurs(path.Base(name)) && slices.Contains(dirs, path.Dir(name))
}

// disabledBy returns the unit of firstboot that a preset file disables before Ignition's
// own preset enables it, or "".
func disabledBy(f types.File) string {
	if path.Ext(f.Path) != ".preset" || path.Base(path.Dir(f.Path)) != "system-preset" || path.Base(f.Path) > presetOfIgnition || f.Contents.Source == nil {
		return ""
	}
	u, err := dataurl.DecodeString(*f.Contents.Source)
	if err != nil {
		return "" // remote: its content is not known
	}
	for line := range strings.Lines(string(u.Data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "enable" && fields[0] != "disable" {
			continue
		}
		for unit := range units.Enabled() {
			if ok, err := path.Match(fields[1], unit); err != nil || !ok {
				continue
			}
			if fields[0] == "disable" {
				return unit
			}
			return "" // the first match counts
		}
	}
	return ""
}
