package ignition

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/coreos/ignition/v2/config/merge"
	shared "github.com/coreos/ignition/v2/config/shared/errors"
	"github.com/coreos/ignition/v2/config/util"
	"github.com/coreos/ignition/v2/config/v3_3/types"
	"github.com/coreos/ignition/v2/config/validate"
	"github.com/coreos/vcontext/report"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/engine"
)

// version matches the version of a config. Each spec from 3.1 to 3.3 only extends the
// one before, so an older config becomes a valid 3.3.0 config with a new version.
var version = regexp.MustCompile(`("version"\s*:\s*")3\.[0-2]\.0"`)

// parse reads the config of --merge and returns the validator's warnings.
func parse(data []byte) (types.Config, []string, error) {
	var named struct{ Ignition struct{ Version string } }
	_ = json.Unmarshal(data, &named) // validated reports the error
	if slices.Contains([]string{"3.0.0", "3.1.0", "3.2.0"}, named.Ignition.Version) {
		data = version.ReplaceAll(data, []byte(`${1}3.3.0"`))
	} else if v := named.Ignition.Version; v != "" && v != types.MaxVersion.String() {
		return types.Config{}, nil, engine.WithHint(fmt.Errorf("cannot merge an Ignition config of spec %q", images.Truncate(v)),
			"specs 3.0.0 to 3.3.0 can be merged")
	}
	c, found, err := validated(data)
	if err != nil {
		return c, nil, invalid("cannot merge the Ignition config", found, err)
	}
	return c, lines(found), nil
}

// validated parses and validates a config like Ignition's package config/v3_3. That
// package would add the types of every older spec to the binary.
func validated(data []byte) (types.Config, report.Report, error) {
	var c types.Config
	if found, err := util.HandleParseErrors(data, &c); err != nil {
		return c, found, err
	}
	if c.Ignition.Version != types.MaxVersion.String() {
		return c, report.Report{}, shared.ErrUnknownVersion
	}
	found := validate.ValidateWithContext(c, data)
	if found.IsFatal() {
		return c, found, shared.ErrInvalid
	}
	return c, found, nil
}

// merged merges with Ignition's own code. On conflict child wins.
func merged(parent, child types.Config) (types.Config, error) {
	result, _ := merge.MergeStructTranscribe(parent, child)
	c, ok := result.(types.Config)
	if !ok {
		return c, errors.New("cannot merge the Ignition configs")
	}
	return c, nil
}

// removeReplaced removes from theirs the files, links and directories whose paths are
// in ours, and returns a note for each. Ignition's merge would combine them: their
// owner, hash and appended text with our contents.
func removeReplaced(theirs *types.Config, ours types.Config) []string {
	taken := map[string]bool{}
	for _, f := range ours.Storage.Files {
		taken[f.Path] = true
	}
	for _, l := range ours.Storage.Links {
		taken[l.Path] = true
	}
	var notes []string
	replaced := func(path string) bool {
		if taken[path] {
			notes = append(notes, fmt.Sprintf("%s is in both configs: that of the --merge config is replaced", path))
		}
		return taken[path]
	}
	s := &theirs.Storage
	s.Files = slices.DeleteFunc(s.Files, func(f types.File) bool { return replaced(f.Path) })
	s.Links = slices.DeleteFunc(s.Links, func(l types.Link) bool { return replaced(l.Path) })
	s.Directories = slices.DeleteFunc(s.Directories, func(d types.Directory) bool { return replaced(d.Path) })
	return notes
}
