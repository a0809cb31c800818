package app

import (
	"context"
	"time"

	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/internal/web"
	"github.com/projecteru2/firstboot/internal/webhook"
)

// postStatus posts the status of a run that is complete, failed or refused to
// report.url, as firstboot status -o json prints it. An error is printed and
// does not change the result of the run.
func (r *run) postStatus(ctx context.Context) {
	if r.partial || r.recorder == nil || r.loaded == nil || r.loaded.Config.Report.URL == "" || ctx.Err() != nil {
		return
	}
	status := report.FromJournal(r.recorder.Journal(), r.stageNames())
	switch status.State {
	case state.Complete, state.Failed, state.Refused:
	default: // a run of selected stages
		return
	}
	r.advise(&status)
	r.machine.postStatus(ctx, r.loaded.Config, status, r.console.Printf)
}

// postStatus posts a status to report.url.
func (m *machine) postStatus(ctx context.Context, c *config.Config, status report.Status, printf func(string, ...any)) {
	body, err := report.CompactDocument(status)
	if err != nil {
		printf("warning: cannot report to %s: %v", c.Report.URL, err)
		return
	}
	name := c.Host.Name
	if name == "" {
		name = m.state.Hostname()
	}
	post := webhook.Post{
		URL: c.Report.URL, Body: body, UserAgent: "firstboot/" + m.Version, Host: name,
		Proxy: web.Proxy(c.Proxy.HTTP.Reveal(), c.Proxy.HTTPS.Reveal(), c.Proxy.No),
		OnRetry: func(err error, pause time.Duration) {
			printf("cannot report to %s: %v; next attempt in %s", c.Report.URL, err, pause.Round(time.Second))
		},
	}
	if err := post.Deliver(ctx); err != nil {
		printf("warning: %v; this does not change the state of this host: %s", err, status.State)
		return
	}
	printf("reported to %s: the state of this host is %s", c.Report.URL, status.State)
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
	m, err := open(o)
	if err != nil {
		printf("warning: cannot report to %s: %v", loaded.Config.Report.URL, err)
		return
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
	m.postStatus(ctx, loaded.Config, status, printf)
}
