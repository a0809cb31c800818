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
	"github.com/projecteru2/firstboot/internal/state"
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
		case util.IsTrue(u.Mask) && isNeeded(u.Name):
			conflict("it masks %s", u.Name)
		case !isOurs(u.Name):
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
	for _, name := range notDirectories(theirs, ours) {
		conflict("%s must be a directory", name)
	}
	for _, name := range notFiles(theirs, ours) {
		conflict("%s must be a file", name)
	}
	for _, name := range masks(theirs) {
		conflict("%s masks %s", name, path.Base(name))
	}
	for _, f := range theirs.Storage.Files {
		if unit := disabledBy(f); unit != "" {
			conflict("%s disables %s", f.Path, unit)
		}
	}
	for _, arg := range theirs.KernelArguments.ShouldExist {
		if unit, ok := strings.CutPrefix(string(arg), "systemd.mask="); ok && isNeeded(unit) {
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

// isNeeded reports whether firstboot, or what a run starts, needs a unit.
func isNeeded(unit string) bool {
	return isOurs(unit) || slices.Contains([]string{units.Docker, "docker.socket", "containerd.service", units.Minions, units.CalicoNode, units.ReportService}, unit)
}

// notDirectories returns the files and links of theirs where a directory must be, for
// the files that ours writes and those that a run writes.
func notDirectories(theirs, ours types.Config) []string {
	needed := []string{state.Dir + "/x", units.AdminDir + "/x", config.DropInDir + "/x"}
	for _, n := range nodes(ours) {
		needed = append(needed, path.Clean(n))
	}
	var found []string
	for _, l := range leaves(theirs) {
		if slices.ContainsFunc(needed, func(n string) bool { return strings.HasPrefix(n, path.Clean(l)+"/") }) {
			found = append(found, l)
		}
	}
	return found
}

// notFiles returns the files of ours that theirs uses as directories.
func notFiles(theirs, ours types.Config) []string {
	var found []string
	for _, l := range leaves(ours) {
		if slices.ContainsFunc(nodes(theirs), func(n string) bool { return strings.HasPrefix(path.Clean(n), l+"/") }) {
			found = append(found, l)
		}
	}
	return found
}

// leaves returns the paths of the files and links of a config.
func leaves(c types.Config) []string {
	c.Storage.Directories = nil
	return nodes(c)
}

// masks returns the links to /dev/null and the empty files that mask a needed unit.
// Those of firstboot's own units are refused anyway.
func masks(c types.Config) []string {
	var found []string
	add := func(name string) {
		if unit := path.Base(name); isNeeded(unit) && !isOurs(unit) && isUnitDir(path.Dir(path.Clean(name))) {
			found = append(found, name)
		}
	}
	for _, l := range c.Storage.Links {
		if l.Target != nil && *l.Target == "/dev/null" {
			add(l.Path)
		}
	}
	for _, f := range c.Storage.Files {
		if len(f.Append) == 0 && (util.NilOrEmpty(f.Contents.Source) || isEmptyData(*f.Contents.Source)) {
			add(f.Path)
		}
	}
	return found
}

// isEmptyData reports whether source is a data URL without data.
func isEmptyData(source string) bool {
	u, err := dataurl.DecodeString(source)
	return err == nil && len(u.Data) == 0
}

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
	return name == "/usr/bin/firstboot" || isOurs(path.Base(name)) && isUnitDir(path.Dir(name))
}

// isUnitDir reports whether systemd reads units from a directory.
func isUnitDir(dir string) bool {
	return slices.Contains([]string{units.AdminDir, units.Dir, "/lib/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"}, dir)
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
