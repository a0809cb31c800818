package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
)

// RunOptions are what a run needs.
type RunOptions struct {
	Options
	Force    bool     // also on a complete host, and with the configuration as its files are now
	Stages   []string // only these and what they need; none: all
	Out      io.Writer
	Err      io.Writer // what went wrong
	Terminal report.Terminal
	Engine   engine.Options // its Events get every event too; may be nil
}

// Run makes the machine what its configuration says. What went wrong is told
// to people here, on Err and on the login screen; the error is for ExitCode.
//
// On a complete host it looks at marker and machine, says so and is done: no
// configuration is loaded, no lock taken, no network used.
func Run(ctx context.Context, o RunOptions) error {
	s, err := open(o.Options)
	if err != nil {
		return err
	}
	selected, err := engine.Select(s.order, o.Stages)
	if err != nil {
		return &UsageError{err}
	}
	at, err := s.standing()
	if err == nil && at.complete() && !o.Force {
		// A reader that has gone does not make the host any less complete.
		_, _ = fmt.Fprintln(o.Out, completeLine(at.marker))
		return nil
	}
	lock, err := state.AcquireLock(s.state)
	if err != nil {
		return err
	}
	defer lock.Release()
	names := engine.Names(selected)
	r := &run{site: s, o: o, names: names, partial: len(selected) < len(s.order), began: time.Now(),
		console: report.NewConsole(o.Out, o.Terminal, names), notifier: report.NewNotifier(names)}
	err = r.whole(ctx)
	r.console.Close()
	err = r.tell(err)
	r.deliver(ctx)
	return err
}

func completeLine(m state.Marker) string {
	return fmt.Sprintf("firstboot: complete (not re-checked): since %s, by firstboot %s; firstboot status looks at the machine",
		m.Finished.UTC().Format(time.RFC3339), m.Version)
}

// run is one run that holds the lock.
type run struct {
	*site
	o        RunOptions
	names    []string
	partial  bool
	began    time.Time
	console  *report.Console
	notifier *report.Notifier
	recorder *report.Recorder // nil until the journal is open
	machine  *host.Host       // what the stages work on; nil until then
	mask     mask
	loaded   *config.Loaded // nil until there is a valid one
	invalid  bool           // the configuration ended the run
	former   *state.Marker
	fresh    *config.Loaded // by force: the sources as they are now
	slip     error          // by force: what is wrong with them
}

// keptError is a forced run that ended before it touched a complete host.
type keptError struct{ error }

func (e *keptError) Unwrap() error { return e.error }

// say tells people and systemd.
func (r *run) say(format string, args ...any) {
	r.console.Printf(format, args...)
	r.notifier.Send(fmt.Sprintf(format, args...))
}

// whole is everything under the lock, in order.
func (r *run) whole(ctx context.Context) error {
	// Another run may have come through while this one waited for its turn.
	at, err := r.standing()
	if err != nil {
		return err
	}
	if at.complete() && !r.o.Force {
		r.say("complete (not re-checked)")
		return nil
	}
	if r.o.Force {
		// First, so that a slip in a file does not make a complete host an
		// incomplete one.
		if r.fresh, r.slip = r.load(ctx, newFetcher(r.say)); r.slip != nil && at.complete() {
			return &keptError{r.slip}
		}
	}
	if err := r.clear(at, r.o.Force, r.say); err != nil {
		return err
	}
	if err := r.openJournal(); err != nil {
		return err
	}
	if r.state.RootInMemory() {
		r.say("%s", memoryNote)
	}
	loaded, err := r.configure(ctx)
	if err != nil {
		r.invalid = isConfig(err)
		return r.end(err)
	}
	r.loaded = loaded
	return r.end(r.stages(ctx, loaded))
}

// openJournal begins this run's journal, counting the attempt.
func (r *run) openJournal() error {
	before, err := r.story(r.say)
	if err != nil {
		return err
	}
	if c, found, err := state.LoadRetired(r.state); err == nil && found {
		r.former = &c
	}
	attempt := before.Attempt + 1
	if before.State == state.Complete {
		attempt = 1
	}
	notes := before.Notes
	if r.o.Force {
		notes.Probe = state.Probe{} // by force means tested anew, too
	}
	j := state.Journal{
		State: state.Running, Version: r.Version, Machine: r.this, BootID: r.state.BootID(), Attempt: attempt,
		Started: r.began.UTC(), Notes: notes, ConfigFiles: before.ConfigFiles, ConfigDigest: before.ConfigDigest,
	}
	for _, name := range r.site.names() {
		j.Stage(name)
	}
	r.recorder = report.NewRecorder(j, func(j *state.Journal) error { return j.Save(r.state) }, func(err error) {
		r.console.Printf("warning: %v; the run goes on without its journal", err)
	})
	if err := r.recorder.Change(func(*state.Journal) {}); err != nil {
		r.console.Printf("warning: %v; the run goes on without its journal", err)
	}
	return nil
}

// configure gives the configuration of this run: the saved one, or where there
// is none, or by force, the sources', which it saves.
func (r *run) configure(ctx context.Context) (*config.Loaded, error) {
	if !r.o.Force {
		saved, err := r.saved()
		if err != nil {
			return nil, err
		}
		if saved != nil {
			return saved, r.compare(ctx, saved)
		}
	}
	loaded, err := r.fresh, r.slip
	if !r.o.Force {
		loaded, err = r.load(ctx, newFetcher(r.say))
	}
	if err != nil {
		return nil, err
	}
	for _, w := range loaded.Warnings {
		r.console.Printf("warning: %v", w)
	}
	return loaded, errors.Join(r.save(loaded), r.note(loaded, absolute(r.Files)))
}

// compare tells of an edit that this run does not apply. Files that were named
// and would be ignored are an error.
func (r *run) compare(ctx context.Context, saved *config.Loaded) error {
	edit := r.edited(ctx, saved, r.recorder.Journal().ConfigFiles)
	if edit != "" && len(r.Files) > 0 {
		return &UsageError{engine.WithHint(fmt.Errorf("this host is made from the configuration of its first run, and --config differs (%s)", edit),
			"firstboot run --force --config %s", strings.Join(r.Files, " --config "))}
	}
	if edit != "" {
		r.console.Printf("warning: %s; this run uses the configuration as first loaded, firstboot run --force applies the change", edit)
	}
	return r.note(saved, r.recorder.Journal().ConfigFiles)
}

// note names the configuration in the journal. That it could not be saved was
// said when the journal was opened.
func (r *run) note(loaded *config.Loaded, files []string) error {
	_ = r.recorder.Change(func(j *state.Journal) { j.ConfigDigest, j.ConfigFiles = loaded.Digest, files })
	return nil
}

// stages runs them, artifacts being fetched from the start beside them.
func (r *run) stages(ctx context.Context, loaded *config.Loaded) error {
	if total := loaded.Config.Timeouts.Total; total > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, total, &TotalTimeoutError{Limit: total.String()})
		defer cancel()
	}
	machine, err := r.openMachine()
	if err != nil {
		return err
	}
	r.machine, r.mask = machine, newMask(machine, loaded.Config)
	work, err := r.build(machine, loaded.Config, r.recorder)
	if err != nil {
		return err
	}
	selected, err := engine.Select(work.Stages, r.o.Stages)
	if err != nil {
		return err
	}
	ahead, cancel := context.WithCancel(ctx)
	var fetching sync.WaitGroup
	if work.Prefetch != nil && !r.partial {
		fetching.Go(func() { work.Prefetch(ahead) })
	}
	sinks := []func(engine.Event){r.recorder.Event, r.console.Event, r.notifier.Event}
	if r.o.Engine.Events != nil {
		sinks = append(sinks, r.o.Engine.Events)
	}
	options := r.o.Engine
	options.Events = r.mask.events(report.Tee(sinks...))
	err = engine.Run(ctx, selected, options)
	cancel()
	fetching.Wait()
	return r.mask.run(err)
}

// openMachine opens the machine so that every file written on it is listed.
func (r *run) openMachine() (*host.Host, error) {
	manifest, err := state.OpenManifest(r.state)
	if err != nil {
		return nil, readable(err)
	}
	told := false
	return r.host(host.WithManifest(func(path, digest string) {
		if strings.HasPrefix(path, state.Dir+"/") || strings.HasPrefix(path, "/run/") {
			return
		}
		if err := manifest.Record(path, digest); err != nil && !told {
			told = true
			r.console.Printf("warning: %v; firstboot reset will not know of every file", err)
		}
	})), nil
}
