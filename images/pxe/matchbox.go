package pxe

import (
	"encoding/json"
	"fmt"
)

// group and profile are matchbox's file formats (documented in its matchbox.md).
type group struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Profile  string            `json:"profile"`
	Selector map[string]string `json:"selector,omitempty"`
}

type profile struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	IgnitionID string `json:"ignition_id"`
	Boot       boot   `json:"boot"`
}

type boot struct {
	Kernel string   `json:"kernel"`
	Initrd []string `json:"initrd"`
	Args   []string `json:"args"`
}

// matchboxFiles returns a host's group and profile. Each host has its own profile,
// because kernel arguments are part of the profile.
func matchboxFiles(o Options, h Host, args []string) ([]File, error) {
	g := group{ID: h.id(), Name: "firstboot: " + h.label(), Profile: h.id()}
	switch {
	case h.MAC != "":
		g.Selector = map[string]string{"mac": h.MAC}
	case h.UUID != "":
		g.Selector = map[string]string{"uuid": h.UUID}
	}
	p := profile{ID: h.id(), Name: g.Name, IgnitionID: h.id() + ".ign", Boot: boot{Kernel: o.url(o.Kernel), Args: args}}
	for _, name := range o.Initrd {
		p.Boot.Initrd = append(p.Boot.Initrd, fmt.Sprintf("--name %s %s", baseName(name), o.url(name)))
	}
	var files []File
	for path, v := range map[string]any{"matchbox/groups/": g, "matchbox/profiles/": p} {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("cannot write the matchbox files of %s: %w", h.label(), err)
		}
		files = append(files, File{Path: path + h.id() + ".json", Data: append(data, '\n')})
	}
	return files, nil
}
