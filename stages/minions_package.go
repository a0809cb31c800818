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
	stamps := e.packaged.stamps
	if stamps == nil {
		stamps = e.Notes.Notes().Packaged
	}
	readFiles := !minions.Unchanged(e.Host, stamps)
	if readFiles {
		stamps = e.packageStamps(ctx)
	}
	changed, err := minions.Changed(ctx, e.Host, readFiles)
	e.packaged.changed, e.packaged.known = changed, err == nil
	if err == nil && len(changed) == 0 && minions.Unchanged(e.Host, stamps) {
		e.noteStamps(stamps)
	}
	return changed, err
}

// packageStamps returns the stamps of the package's files, nil if they cannot be read.
func (e *Env) packageStamps(ctx context.Context) map[string]string {
	files, err := minions.PackagedFiles(ctx, e.Host)
	if err != nil {
		return nil // rpm reads the files each time
	}
	return minions.Stamps(e.Host, files)
}

// noteStamps notes the stamps of files whose digests rpm has computed.
func (e *Env) noteStamps(stamps map[string]string) {
	e.packaged.stamps = stamps
	if maps.Equal(stamps, e.Notes.Notes().Packaged) {
		return
	}
	// A command that only checks cannot store this, and the next one reads the files again.
	_ = e.Notes.SetNotes(func(n *state.Notes) { n.Packaged = stamps })
}

// removePartialFiles removes what a killed rpm left next to the package's files. Of those
// that this stage has just installed, rpm has computed the digests, and they count as
// unchanged from here on.
func (s plugin) removePartialFiles(ctx context.Context, installed bool) {
	files, err := minions.PackagedFiles(ctx, s.Host)
	if installed {
		s.packaged.Lock()
		s.packaged.stamps = nil
		if err == nil {
			s.packaged.stamps = minions.Stamps(s.Host, files)
		}
		s.packaged.Unlock()
	}
	if err == nil { // leftovers only take up space
		minions.RemovePartialFiles(s.Host, files)
	}
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
func (s plugin) install(ctx context.Context, report engine.Progress) (installed bool, err error) {
	path, err := s.getArtifact(ctx, minionsName, report)
	if err != nil {
		return false, err
	}
	if err := minions.Verify(s.Host, path, s.Config.Minions.SignedBy); err != nil {
		return false, errors.Join(err, s.removeUnpinned())
	}
	if id, err := minions.Installed(ctx, s.Host); err == nil && id != "" && id == minions.InFile(ctx, s.Host, path) {
		if changed, err := s.changedFiles(ctx); err == nil && len(changed) == 0 {
			return false, s.recordOrigin(ctx, minionsName, path, id, time.Time{})
		}
	}
	if err := s.noteOutdated(ctx, units.Minions); err != nil {
		return false, err
	}
	report("installing "+minions.Package, 0, 0)
	if err := s.runInstall(ctx, path); err != nil {
		return false, err
	}
	id, err := minions.Installed(ctx, s.Host)
	if err != nil {
		return false, &engine.Retry{Err: err}
	}
	return true, s.recordOrigin(ctx, minionsName, path, id, time.Now())
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
