package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/internal/web"
	"github.com/projecteru2/firstboot/internal/webhook"
	"github.com/projecteru2/firstboot/units"
)

// A run does not post its report itself: it would hold the lock, and systemd
// would count the host as starting, while a server does not answer. It writes
// the report to a file and starts a service that posts it.

const (
	// deliveryTimeout bounds all attempts to post one report. The next boot tries
	// again.
	deliveryTimeout = 24 * time.Hour
	// installReportTimeout bounds the report of a live root, which reboots after
	// it.
	installReportTimeout = time.Minute
)

// writeReport writes the status of the run for the service that delivers it. It
// reports whether there is something to deliver. An error is printed and does not
// change the result of the run.
func (r *run) writeReport(ctx context.Context) bool {
	if r.partial || r.recorder == nil || r.loaded == nil || r.loaded.Config.Report.URL == "" || ctx.Err() != nil {
		return false
	}
	status := report.FromJournal(r.recorder.Journal(), r.stageNames())
	switch status.State {
	case state.Complete, state.Failed, state.Refused, state.Running:
	default: // a run of selected stages
		return false
	}
	r.advise(&status)
	body, err := report.CompactDocument(status)
	if err == nil {
		pending := state.Report{Machine: r.identity, State: status.State, Written: time.Now().UTC(), Status: body}
		err = pending.Save(r.state)
	}
	if err != nil {
		r.console.Printf("warning: cannot report to %s: %v", r.loaded.Config.Report.URL, err)
		return false
	}
	return true
}

// startDelivery starts the service that posts the report, without waiting for it.
// A delivery in progress is restarted, so that it posts the newest report.
func (m *machine) startDelivery(ctx context.Context, printf func(string, ...any)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unitTimeout)
	defer cancel()
	if err := m.openHost().Systemd().Restart(ctx, units.ReportService); err != nil {
		printf("warning: cannot start %s, which reports the state of this host: %v; firstboot report delivers %s now",
			units.ReportService, err, state.ReportPath)
	}
}

// resumeDelivery starts the delivery of a report that an earlier boot did not
// deliver.
func (m *machine) resumeDelivery(ctx context.Context, printf func(string, ...any)) {
	if m.state.Exists(state.ReportPath) {
		m.startDelivery(ctx, printf)
	}
}

// DeliverReport posts the report that a run has written to report.url, and removes
// it when the server has accepted it. It retries for a day. A report that was not
// delivered stays for the next boot.
func DeliverReport(ctx context.Context, o Options, printf func(string, ...any)) error {
	m, err := open(o)
	if err != nil {
		return err
	}
	for {
		pending, found, err := state.LoadReport(m.state)
		var damaged *state.DamagedError
		switch {
		case errors.As(err, &damaged):
			return errors.Join(fmt.Errorf("%w; it was removed", err), state.RemoveDamagedReport(m.state))
		case err != nil:
			return withStateHint(err)
		case !found:
			printf("nothing to report")
			return nil
		}
		if err := m.deliver(ctx, pending, printf); err != nil {
			return err
		}
		if removed, err := state.RemoveReport(m.state, pending); removed || err != nil {
			return err
		}
	}
}

// deliver posts one report. It returns nil if there is no reason to keep it.
func (m *machine) deliver(ctx context.Context, pending state.Report, printf func(string, ...any)) error {
	if !pending.Machine.Same(m.identity) {
		theirs, ours := pending.Machine.Distinguish(m.identity)
		printf("%s is about another machine (%s, this is %s); it is removed", state.ReportPath, theirs, ours)
		return nil
	}
	loaded, err := m.saved()
	switch {
	case err != nil:
		return err
	case loaded == nil || loaded.Config.Report.URL == "":
		printf("report.url is not set; %s is removed", state.ReportPath)
		return nil
	}
	var body bytes.Buffer // the file is indented
	if err := json.Compact(&body, pending.Status); err != nil {
		return fmt.Errorf("cannot report %s: %w", state.ReportPath, err)
	}
	return m.post(ctx, loaded.Config, pending.State, body.Bytes(), deliveryTimeout, printf)
}

// post posts a status to report.url until the server accepts or rejects it, or
// the limit passes.
func (m *machine) post(ctx context.Context, c *config.Config, st state.State, body []byte, limit time.Duration, printf func(string, ...any)) error {
	name := c.Host.Name
	if name == "" {
		name = m.state.Hostname()
	}
	post := webhook.Post{
		URL: c.Report.URL, Body: body, UserAgent: "firstboot/" + m.Version, Host: name, Timeout: limit,
		Proxy: web.Proxy(c.Proxy.HTTP.Reveal(), c.Proxy.HTTPS.Reveal(), c.Proxy.No),
		OnRetry: func(err error, pause time.Duration) {
			printf("cannot report to %s: %v; next attempt in %s", c.Report.URL, err, pause.Round(time.Second))
		},
	}
	if err := post.Deliver(ctx); err != nil {
		return fmt.Errorf("%w; this does not change the state of this host: %s", err, st)
	}
	printf("reported to %s: the state of this host is %s", c.Report.URL, st)
	return nil
}

// InstallStage is the name, in a posted status, of writing a disk from a live
// root. It is not a stage of a run.
const InstallStage = "install"

// ReportInstallFailure posts to report.url that a disk could not be written, as
// a status with the single stage InstallStage. A provisioning pipeline has no
// other way to notice. An interruption is not reported.
func ReportInstallFailure(ctx context.Context, o Options, loaded *config.Loaded, began time.Time, failure error, printf func(string, ...any)) {
	if loaded == nil || loaded.Config.Report.URL == "" || failure == nil || ctx.Err() != nil {
		return
	}
	if err := reportInstallFailure(ctx, o, loaded, began, failure, printf); err != nil {
		printf("warning: %v", err)
	}
}

func reportInstallFailure(ctx context.Context, o Options, loaded *config.Loaded, began time.Time, failure error, printf func(string, ...any)) error {
	m, err := open(o)
	if err != nil {
		return fmt.Errorf("cannot report to %s: %w", loaded.Config.Report.URL, err)
	}
	failure = newMask(m.state, loaded.Config).err(failure)
	st, now := state.Failed, time.Now()
	if refused(failure) {
		st = state.Refused
	}
	j := state.Journal{
		State: st, Version: o.Version, ConfigDigest: loaded.Digest, Machine: m.identity, Attempt: 1, Started: began, Finished: now,
		Stages: []state.Stage{{
			Name: InstallStage, State: state.StageFailed, Attempts: 1, Seconds: report.Seconds(now.Sub(began)),
			Error: failure.Error(), Hint: engine.Hint(failure),
		}},
	}
	status := report.FromJournal(j, []string{InstallStage})
	status.Advice = report.Advice{Next: "the next boot of the live root tries again", Type: []report.Command{{Line: "journalctl -u firstboot-disk"}}}
	body, err := report.CompactDocument(status)
	if err != nil {
		return fmt.Errorf("cannot report to %s: %w", loaded.Config.Report.URL, err)
	}
	return m.post(ctx, loaded.Config, st, body, installReportTimeout, printf)
}
