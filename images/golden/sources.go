package golden

import (
	"fmt"
	"slices"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/host"
)

// installed maps artifacts to the paths that they are installed to.
func installed() map[string]string {
	return map[string]string{calicoctl: "/usr/bin/calicoctl", minions: "/usr/bin/eru-minions"}
}

// WithoutSource returns the artifacts that a host has no source for: they have no
// URL, and has reports that the host does not have them. Docker pulls the
// calico-node image by its name, unless the configuration pins an archive.
func WithoutSource(all []Artifact, has func(Artifact) bool) []Artifact {
	return slices.DeleteFunc(slices.Clone(all), func(a Artifact) bool {
		return a.URL != "" || a.Name == nodeImage && a.SHA256 == "" || has(a)
	})
}

// SourceWarnings returns a warning for each artifact that the hosts of a
// configuration need in their image or in a bundle.
func SourceWarnings(all []Artifact, has func(Artifact) bool) []string {
	var warnings []string
	for _, a := range WithoutSource(all, has) {
		warnings = append(warnings, fmt.Sprintf("%s has no source: %s.url is not set; unless it is installed or in a bundle, preflight refuses the host (artifact-missing)",
			a.Name, a.Section))
	}
	return warnings
}

// HasArtifact reports whether a root directory has an artifact: it is installed
// there, or it is in one of the bundles.
func HasArtifact(h *host.Host, a Artifact, bundles []*artifact.Bundle) bool {
	if path := installed()[a.Name]; path != "" && h.Exists(path) {
		return true
	}
	return slices.ContainsFunc(bundles, func(b *artifact.Bundle) bool {
		return slices.ContainsFunc(b.Entries, func(e artifact.Entry) bool {
			return e.Name == a.Name && (a.SHA256 == "" || a.SHA256 == e.SHA256)
		})
	})
}

// OpenBundles opens the bundles in a root directory. Those that are missing or
// damaged are left out.
func OpenBundles(h *host.Host, dirs []string) []*artifact.Bundle {
	var all []*artifact.Bundle
	for _, dir := range dirs {
		if b, err := artifact.OpenBundle(h.RealPath(dir)); err == nil {
			all = append(all, b)
		}
	}
	return all
}
