package stages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// checkPackage adds a difference unless the configured RPM is installed and its
// files are unchanged.
func (e *Env) checkPackage(ctx context.Context, f *engine.CheckResult) error {
	return e.comparePackage(ctx, e.changedFiles, f)
}

// comparePackage does so with the changed files that changed returns.
func (e *Env) comparePackage(ctx context.Context, changed func(context.Context) ([]string, error), f *engine.CheckResult) error {
	id, err := minions.Installed(ctx, e.Host)
	if err != nil {
		return err
	}
	installed, _, _ := strings.Cut(id, " ")
	if installed == "" {
		f.Add(engine.Difference{Object: "package " + minions.Package, Actual: "not installed", Expected: "installed"})
		return nil
	}
	if want := e.wantedPackage(); want != "" && want != installed {
		f.Add(engine.Difference{Object: "package " + minions.Package, Actual: installed, Expected: want})
		return nil
	}
	if e.checkOrigin(minionsName, "package "+installed, id, f); !f.OK() {
		return nil
	}
	files, err := changed(ctx)
	for _, file := range files {
		f.Add(engine.Difference{Object: "package " + minions.Package, Actual: file, Expected: "as packaged"})
	}
	return err
}

// changedFiles lists the package's files that have changed.
func (e *Env) changedFiles(ctx context.Context) ([]string, error) {
	e.packaged.Lock()
	defer e.packaged.Unlock()
	return e.readChanged(ctx)
}

// lastChangedFiles lists the files that rpm printed last.
func (e *Env) lastChangedFiles(ctx context.Context) ([]string, error) {
	e.packaged.Lock()
	defer e.packaged.Unlock()
	if e.packaged.known {
		return e.packaged.changed, nil
	}
	return e.readChanged(ctx)
}

// readChanged asks rpm. It makes rpm read files only if they may have changed since
// their digests were computed: that takes seconds on a slow machine.
func (e *Env) readChanged(ctx context.Context) ([]string, error) {
	noted := e.Notes.Notes().Packaged
	unread := !e.packaged.installed && !minions.Unchanged(e.Host, noted)
	changed, err := minions.Changed(ctx, e.Host, unread)
	e.packaged.changed, e.packaged.known = changed, err == nil
	if err != nil || len(changed) > 0 {
		return changed, err
	}
	if unread || e.packaged.installed {
		e.noteFiles(ctx, noted)
		e.packaged.installed = false // from now on the noted stamps count
	}
	return nil, nil
}

// noteFiles notes the package's files, whose digests rpm has computed. noted are those
// of the last time.
func (e *Env) noteFiles(ctx context.Context, noted map[string]string) {
	if e.packaged.files == nil {
		var err error
		if e.packaged.files, err = minions.PackagedFiles(ctx, e.Host); err != nil {
			return // rpm reads them again
		}
	}
	if stamps := minions.Stamps(e.Host, e.packaged.files); !maps.Equal(stamps, noted) {
		// A command that only checks cannot store this, and the next one reads them again.
		_ = e.Notes.SetNotes(func(n *state.Notes) { n.Packaged = stamps })
	}
}

// removePartialFiles removes what a killed rpm left next to the package's files.
func (s plugin) removePartialFiles(ctx context.Context) {
	files, err := minions.PackagedFiles(ctx, s.Host)
	if err != nil {
		return // leftovers only take up space
	}
	s.packaged.Lock()
	s.packaged.files = files
	s.packaged.Unlock()
	minions.RemovePartialFiles(s.Host, files)
}

// wantedPackage returns NAME-VERSION-RELEASE of the RPM in the cache or a
// bundle, "" if there is no readable one.
func (e *Env) wantedPackage() string {
	path, ok := e.localArtifact(minionsName)
	if !ok {
		return ""
	}
	p, err := artifact.ReadPackage(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s-%s-%s", p.Name, p.Version, p.Release)
}

// install installs the configured RPM, unless it is installed already and only its
// origin is unknown.
func (s plugin) install(ctx context.Context, report engine.Progress) error {
	path, err := s.getArtifact(ctx, minionsName, report)
	if err != nil {
		return err
	}
	if err := minions.Verify(s.Host, path, s.Config.Minions.SignedBy); err != nil {
		return errors.Join(err, s.removeUnpinned())
	}
	if id, err := minions.Installed(ctx, s.Host); err == nil && id != "" && id == minions.InFile(ctx, s.Host, path) {
		if changed, err := s.changedFiles(ctx); err == nil && len(changed) == 0 {
			return s.recordOrigin(ctx, minionsName, path, id, time.Time{})
		}
	}
	if err := s.noteOutdated(ctx, units.Minions); err != nil {
		return err
	}
	report("installing "+minions.Package, 0, 0)
	if err := s.runInstall(ctx, path); err != nil {
		return err
	}
	s.packaged.Lock()
	s.packaged.installed = true
	s.packaged.Unlock()
	id, err := minions.Installed(ctx, s.Host)
	if err != nil {
		return &engine.Retry{Err: err}
	}
	return s.recordOrigin(ctx, minionsName, path, id, time.Now())
}

// runInstall returns a *engine.Wait while another package manager is at work.
func (s plugin) runInstall(ctx context.Context, path string) error {
	err := minions.Install(ctx, s.Host, path)
	var locked *minions.LockedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &locked) && locked.Holder != "":
		return &engine.Wait{For: "rpm's transaction lock, held by " + locked.Holder, Err: err}
	case locked != nil:
		return &engine.Wait{For: "rpm's transaction lock", Err: err}
	}
	return &engine.Retry{Err: err}
}

// removeUnpinned removes a package without a pinned digest from the cache, so
// that the right one is fetched once the URL serves it.
func (s plugin) removeUnpinned() error {
	ref := s.reference(minionsName)
	if ref.SHA256 != "" || ref.URL == "" {
		return nil
	}
	return s.Store.Remove(ref)
}
