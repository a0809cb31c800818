// Package golden prepares machine images. It packs the artifacts that a host needs
// (bundle), installs firstboot into an image's root directory without running any
// program of the image (bake), and removes the machine identity from an image
// (seal).
//
// It knows the layout of images, their units and the machine identity in them. It
// does not know what the stages' files are for: the caller passes a function that
// returns them.
package golden

import (
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
)

// Artifact is an artifact of a configuration.
type Artifact struct {
	artifact.Ref
	Section string // in the configuration, such as "calicoctl"
	Version string // in the configuration; empty if only the file contains it
}

// The artifacts' names, as the stages use them.
const (
	calicoctl = "calicoctl"
	nodeImage = "node-image"
	minions   = "eru-minions"
)

// Artifacts adds to the stages' references their sections in the configuration and
// their versions.
func Artifacts(c *config.Config, refs []artifact.Ref) []Artifact {
	var all []Artifact
	for _, ref := range refs {
		a := Artifact{Ref: ref, Section: ref.Name}
		switch ref.Name {
		case calicoctl:
			a.Version = c.Calicoctl.Version
		case nodeImage:
			a.Section, a.Version = "node", imageTag(c.Node.Image)
		case minions:
			a.Section = "minions"
		}
		all = append(all, a)
	}
	return all
}

// imageTag returns the tag of an image's name. A registry's port is not a tag.
func imageTag(name string) string {
	_, tag, found := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	if !found {
		return ""
	}
	return tag
}

// Pinned returns the artifacts that a host takes from a bundle: those with a
// digest.
func Pinned(all []Artifact) []Artifact {
	return slices.DeleteFunc(slices.Clone(all), func(a Artifact) bool { return a.SHA256 == "" })
}
