// Package golden makes machine images: it fetches and packs what a host needs
// (bundle), puts firstboot into an image's root folder without running
// anything of it (bake), and takes out of an image what its clones must not
// inherit (seal).
//
// It knows images: their root folder, their units, what makes them one of a
// kind. What the files are for that an image gets, it does not know: the
// stages' files come in as a function.
package golden

import (
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
)

// Artifact is one that a configuration names.
type Artifact struct {
	artifact.Ref
	Section string // of the configuration: "calicoctl"
	Version string // as the configuration says it; empty where only the file tells
}

// The artifacts' names, as the stages ask for them.
const (
	calicoctl = "calicoctl"
	nodeImage = "node-image"
	minions   = "eru-minions"
)

// Artifacts adds to the stages' references what a bundle's manifest and the
// configuration call them.
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

// imageTag is the tag of an image's name, without the registry's port.
func imageTag(name string) string {
	_, tag, found := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	if !found {
		return ""
	}
	return tag
}

// Pinned are the artifacts that a host could take from a bundle: those with a
// sum.
func Pinned(all []Artifact) []Artifact {
	return slices.DeleteFunc(slices.Clone(all), func(a Artifact) bool { return a.SHA256 == "" })
}
