package stages

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/state"
)

// pinnedDigest returns the sha256 that an artifact must have: the configured one
// or, if the configuration names neither digest nor URL, that of the bundle. It
// is "" if neither states one.
func (e *Env) pinnedDigest(name string) string {
	ref := e.reference(name)
	if ref.SHA256 == "" && ref.URL == "" {
		return e.Store.BundledDigest(name)
	}
	return ref.SHA256
}

// pin identifies the file from which an artifact must be installed. It is "" if
// any will do, because there is no source to compare it with.
func (e *Env) pin(name string) string {
	if digest := e.pinnedDigest(name); digest != "" {
		return digest
	}
	if ref := e.reference(name); ref.URL != "" {
		return ref.Identity() // a signature pins it
	}
	return ""
}

// checkOrigin adds a difference unless firstboot has verified that the object
// with this ID comes from the pinned file. A name or a version proves nothing:
// an image and a package can be replaced under the same name.
func (e *Env) checkOrigin(name, object, id string, f *engine.CheckResult) {
	want := e.pin(name)
	have := e.Notes.Notes().Installed[name]
	if want == "" || have.Artifact == want && have.ID == id {
		return
	}
	d := engine.Difference{Object: object, Actual: "not verified by firstboot", Expected: "from the file with sha256 " + want}
	if strings.HasPrefix(want, "url-") {
		d.Expected = "from the file at the configured url"
	}
	if have.ID == id {
		d.Actual = "from the file with sha256 " + have.SHA256
	}
	f.Add(d)
}

// recordOrigin notes that the object with this ID comes from the file at path.
// installed is the time of its installation.
func (e *Env) recordOrigin(ctx context.Context, name, path, id string, installed time.Time) error {
	digest := e.pinnedDigest(name)
	if digest == "" {
		var err error
		if digest, err = e.Store.Digest(ctx, path); err != nil {
			return err
		}
	}
	record := state.Installed{Artifact: e.pin(name), SHA256: digest, ID: id, Time: installed}
	return e.Notes.SetNotes(func(n *state.Notes) {
		all := maps.Clone(n.Installed) // others may be reading it
		if all == nil {
			all = map[string]state.Installed{}
		}
		all[name] = record
		n.Installed = all
	})
}
