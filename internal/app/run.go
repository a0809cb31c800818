package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/units"
)

// RunOptions are the options of a run.
type RunOptions struct {
	Options
	Force    bool     // run on a complete host too, and read the configuration files again
	Stages   []string // only these and the stages that they need; empty: all
	Out      io.Writer
	Err      io.Writer // for failures
	Terminal report.Terminal
	Engine   engine.Options // its Events, which may be nil, also gets every event
}

// Run brings the machine to the state that its configuration describes. Failures
// are printed to Err and shown on the login screen; the error is for ExitCode.
//
// On a complete host Run only reads the marker and the machine's identity, unless
// stages are selected. It loads no configuration, takes no lock and uses no
// network. It changes only the mode of a state directory that others can read.
func Run(ctx context.Context, o RunOptions) error {
	m, err := open(o.Options)
	if err != nil {
		return err
	}
	selected, err := engine.Select(m.stages, o.Stages)
	if err != nil {
		return &UsageError{err}
	}
	if err := m.state.ProtectStateDir(); err != nil {
		printTo(o.Err)("warning: %v; other users may read which files are in it", err)
	}
	if marker, complete := m.records.Complete(); complete && !o.Force && len(o.Stages) == 0 {
		// The host is complete even if this cannot be written.
		_, _ = fmt.Fprintln(o.Out, completeLine(marker))
		m.resumeDelivery(ctx, printTo(o.Err))
		return nil
	}
	names := engine.Names(selected)
	r := &run{machine: m, o: o, names: names, began: time.Now(),
		console: report.NewConsole(o.Out, o.Terminal, names), notifier: report.NewNotifier(names)}
	lock, err := r.acquireLock(ctx)
	if err != nil {
		r.console.Close()
		return withStateHint(err)
	}
	defer lock.Release() // if a panic ends the run; otherwise it is released below
	m.resumeDelivery(ctx, r.console.Printf)
	err = r.execute(ctx)
	r.console.Close()
	err = r.reportError(err)
	pending := r.writeReport(ctx)
	if releaseErr := lock.Release(); releaseErr != nil {
		r.console.Printf("warning: cannot release the lock, which ends with this process: %v", releaseErr)
	}
	if pending {
		r.console.Printf("%s reports the result to %s", units.ReportService, r.loaded.Config.Report.URL)
		m.startDelivery(ctx, r.console.Printf)
	}
	return err
}

// The run of a boot must not fail because of a verify, which takes less than
// verifyTimeout.
const (
	verifyTimeout = 5 * time.Minute
	verifyPause   = 500 * time.Millisecond
)

// acquireLock takes the lock. It waits for a verify in progress.
func (r *run) acquireLock(ctx context.Context) (*state.Lock, error) {
	for deadline, waits := time.Now().Add(verifyTimeout), false; ; {
		lock, err := state.AcquireLock(r.state, state.CommandRun)
		var held *state.LockHeldError
		if !errors.As(err, &held) || held.Holder.Command != state.CommandVerify || time.Now().After(deadline) {
			return lock, err
		}
		if !waits {
			waits = true
			r.printf("waiting for the end of firstboot verify (pid %d)", held.Holder.PID)
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(verifyPause):
		}
	}
}

// printTo returns a function that prints lines of a run to w.
func printTo(w io.Writer) func(string, ...any) {
	return func(format string, args ...any) {
		// What happens does not depend on whether this can be written.
		_, _ = fmt.Fprintf(w, "firstboot: "+format+"\n", args...)
	}
}

func completeLine(marker state.Marker) string {
	return fmt.Sprintf("firstboot: complete (not re-checked) since %s, by firstboot %s; firstboot status checks the machine",
		marker.Finished.UTC().Format(time.RFC3339), marker.Version)
}

// run is one run. It holds the lock.
type run struct {
	*machine
	o        RunOptions
	names    []string // of the selected stages
	partial  bool     // a run of selected stages
	began    time.Time
	console  *report.Console
	notifier *report.Notifier
	recorder *report.Recorder    // nil until the journal is open
	screen   *report.LoginScreen // nil in a run of selected stages, and until the configuration is read
	host     *host.Host          // for the stages; nil until they start
	manifest *runManifest        // of the files that the stages write
	mask     mask
	loaded   *config.Loaded // nil until a valid configuration is loaded
	invalid  bool           // the configuration made the run fail
	life     *state.Run     // nil until the run has started
	changes  changes
	final    state.State    // after the run
	fresh    *config.Loaded // with --force: the configuration files as they are now
	freshErr error          // with --force: why fresh could not be loaded
}

// unchangedError reports a forced run that failed before it changed the state of
// the host.
type unchangedError struct{ error }

func (e *unchangedError) Unwrap() error { return e.error }

// printf prints a line and sends it to systemd.
func (r *run) printf(format string, args ...any) {
	r.console.Printf(format, args...)
	r.notifier.Send(fmt.Sprintf(format, args...))
}

// execute runs everything that needs the lock, in order.
func (r *run) execute(ctx context.Context) error {
	// Another run may have completed the host before this one got the lock.
	_, complete := r.records.Complete()
	if complete && !r.o.Force && len(r.o.Stages) == 0 {
		r.printf("complete (not re-checked)")
		return nil
	}
	if err := r.records.Recover(time.Now(), r.printf); err != nil {
		return withStateHint(err)
	}
	before, err := r.records.Read()
	if err != nil {
		return withStateHint(err)
	}
	if r.o.Force {
		// Load first, so that a mistake in a file does not change the state of a
		// host that is complete or that left.
		r.fresh, r.freshErr = r.load(ctx, r.printf)
		if r.freshErr != nil && (before.State == state.Complete || before.State == state.Left || before.State == state.Leaving) {
			return &unchangedError{r.freshErr}
		}
	}
	if err := r.start(before.State); err != nil {
		return err
	}
	if !r.partial {
		r.screen = report.NewLoginScreen(r.messages(), r.names, r.began)
	}
	if r.state.RootInMemory() {
		r.printf("%s", inMemoryNote)
	}
	loaded, err := r.configure(ctx)
	if err != nil {
		r.invalid = isConfig(err)
		return r.finish(err)
	}
	r.loaded = loaded
	return r.finish(r.runStages(ctx, loaded))
}

// start starts the run and its journal.
func (r *run) start(before state.State) error {
	event := r.startEvent(before)
	started, err := r.records.Start(state.Start{Event: event, Version: r.Version, BootID: r.state.BootID(), Now: r.began})
	var illegal *state.TransitionError
	switch {
	case errors.As(err, &illegal) && event == state.StartAtBoot:
		return &LeftError{before}
	case err != nil:
		return withStateHint(err)
	}
	r.life, r.partial = started, event == state.StartSelected
	printSetAside(r.printf, started.Damaged())
	j := started.Journal()
	if r.o.Force {
		j.Notes.Probe = state.Probe{}     // repeat the test with the probe container
		j.Notes.Network = state.Network{} // decide again
		j.Notes.ForgetDigests()           // as verify does
	}
	for _, name := range r.stageNames() {
		j.Stage(name)
	}
	warn := func(err error) { r.console.Printf("warning: %v; the run continues without its journal", err) }
	r.recorder = report.NewRecorder(j, started, warn)
	if err := r.recorder.Change(func(*state.Journal) {}); err != nil {
		warn(err)
	}
	return nil
}

// configure returns the configuration of this run: the saved one, or if there is
// none, or with --force, that of the sources, which it saves.
func (r *run) configure(ctx context.Context) (*config.Loaded, error) {
	saved, err := r.savedOrSetAside()
	if !r.o.Force && err != nil {
		return nil, err
	}
	if !r.o.Force && saved != nil {
		return saved, r.compareSources(ctx, saved)
	}
	loaded, err := r.fresh, r.freshErr
	if !r.o.Force {
		loaded, err = r.load(ctx, func(format string, args ...any) {
			r.printf(format, args...)
			if r.screen != nil {
				r.screen.Wait(fmt.Sprintf(format, args...), time.Now())
			}
		})
	}
	if err != nil {
		return nil, err
	}
	for _, w := range loaded.Warnings {
		r.console.Printf("warning: %v", w)
	}
	return loaded, errors.Join(r.save(ctx, loaded), r.recordConfig(loaded, absolutePaths(r.Files)))
}

// compareSources warns about changes that this run does not apply. It returns an
// error if they are in files that --config names.
func (r *run) compareSources(ctx context.Context, saved *config.Loaded) error {
	change := r.configChange(ctx, saved, r.recorder.Journal().ConfigFiles)
	if change != "" && len(r.Files) > 0 {
		return &UsageError{engine.WithHint(fmt.Errorf("--config differs from the saved configuration of this host (%s)", change),
			"firstboot run --force --config %s", strings.Join(r.Files, " --config "))}
	}
	if change != "" {
		r.console.Printf("warning: %s; this run uses the saved configuration; firstboot run --force applies the change", change)
	}
	return r.recordConfig(saved, r.recorder.Journal().ConfigFiles)
}

// recordConfig names the configuration in the journal. A journal that cannot be
// written was reported when it was opened.
func (r *run) recordConfig(loaded *config.Loaded, files []string) error {
	if j := r.recorder.Journal(); j.ConfigDigest == loaded.Digest && slices.Equal(j.ConfigFiles, files) {
		return nil
	}
	_ = r.recorder.Change(func(j *state.Journal) { j.ConfigDigest, j.ConfigFiles = loaded.Digest, files })
	return nil
}

// runStages runs the selected stages and fetches artifacts in parallel.
func (r *run) runStages(ctx context.Context, loaded *config.Loaded) error {
	if total := loaded.Config.Timeouts.Total; total > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, total, &TotalTimeoutError{Limit: total.String()})
		defer cancel()
	}
	h, err := r.openRecordedHost()
	if err != nil {
		return err
	}
	r.host, r.mask = h, newMask(h, loaded.Config)
	set, err := r.build(h, loaded.Config, r.recorder)
	if err != nil {
		return err
	}
	selected, err := engine.Select(set.Stages, r.o.Stages)
	if err != nil {
		return err
	}
	prefetchCtx, stopPrefetch := context.WithCancel(ctx)
	var prefetching sync.WaitGroup
	if set.Prefetch != nil && !r.partial {
		prefetching.Go(func() { set.Prefetch(prefetchCtx) })
	}
	sinks := []func(engine.Event){r.changes.Event, r.recorder.Event, r.console.Event, r.notifier.Event}
	if r.screen != nil {
		sinks = append(sinks, r.screen.Event)
	}
	var deliveries sync.WaitGroup
	sinks = append(sinks, newLongWait(loaded.Config.Report.WaitingAfter, func() {
		if r.writeReport(ctx) {
			deliveries.Go(func() { r.startDelivery(ctx, r.console.Printf) })
		}
	}).Event)
	if r.o.Engine.Events != nil {
		sinks = append(sinks, r.o.Engine.Events)
	}
	options := r.o.Engine
	options.Events = r.mask.events(report.Tee(sinks...))
	err = engine.Run(ctx, selected, options)
	stopPrefetch()
	prefetching.Wait()
	deliveries.Wait()
	r.manifest.flush()
	return r.mask.runError(err)
}
