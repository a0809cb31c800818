package ignition

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/coreos/ignition/v2/config/v3_3"
	"github.com/coreos/ignition/v2/config/v3_3/types"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/engine"
)

// parse reads a config to merge into.
func parse(data []byte) (types.Config, []string, error) {
	c, found, err := v3_3.ParseCompatibleVersion(data)
	if err == nil {
		return c, lines(found), nil
	}
	var named struct{ Ignition struct{ Version string } }
	if json.Unmarshal(data, &named) == nil && named.Ignition.Version != "" && !found.IsFatal() {
		return c, nil, engine.WithHint(fmt.Errorf("cannot merge an Ignition config of spec %q", images.Clip(named.Ignition.Version)),
			"3.0.0 to 3.3.0 can be merged")
	}
	return c, nil, invalid("cannot merge the Ignition config", found, err)
}

// giveWay takes out of theirs what stands where ours goes. Ignition's merge
// would mix the two: their owner, hash and appended text with our contents.
func giveWay(theirs *types.Config, ours types.Config) []string {
	taken := map[string]bool{}
	for _, f := range ours.Storage.Files {
		taken[f.Path] = true
	}
	for _, l := range ours.Storage.Links {
		taken[l.Path] = true
	}
	var notes []string
	gives := func(path string) bool {
		if taken[path] {
			notes = append(notes, fmt.Sprintf("%s is in the config to merge into as well: this configuration's takes its place", path))
		}
		return taken[path]
	}
	s := &theirs.Storage
	s.Files = slices.DeleteFunc(s.Files, func(f types.File) bool { return gives(f.Path) })
	s.Links = slices.DeleteFunc(s.Links, func(l types.Link) bool { return gives(l.Path) })
	s.Directories = slices.DeleteFunc(s.Directories, func(d types.Directory) bool { return gives(d.Path) })
	return notes
}
