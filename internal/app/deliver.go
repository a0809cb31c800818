package app

import (
	"context"
	"encoding/json"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/internal/state"
	"github.com/projecteru2/firstboot/internal/webhook"
)

// deliver tells report.url how the run ended, once it is complete or has ended
// without a member: the status that firstboot status -o json would show. That
// nobody could be told changes nothing about the run.
func (r *run) deliver(ctx context.Context) {
	if r.recorder == nil || r.loaded == nil || r.loaded.Config.Report.URL == "" || ctx.Err() != nil {
		return
	}
	status := report.FromJournal(r.recorder.Journal(), r.site.names())
	switch status.State {
	case state.Complete, state.Failed, state.Refused:
	default: // only a few stages were asked for
		return
	}
	r.advise(&status)
	r.site.deliver(ctx, r.loaded.Config, status, r.console.Printf)
}

// deliver tells report.url a status.
func (s *site) deliver(ctx context.Context, c *config.Config, status report.Status, say func(string, ...any)) {
	body, err := json.Marshal(status)
	if err != nil {
		say("warning: cannot tell %s how this ended: %v", c.Report.URL, err)
		return
	}
	name := c.Host.Name
	if name == "" {
		name = s.state.Hostname()
	}
	post := webhook.Post{
		URL: c.Report.URL, Body: body, UserAgent: "firstboot/" + s.Version, Host: name,
		Proxy: artifact.ProxyFunc(c.Proxy.HTTP.Reveal(), c.Proxy.HTTPS.Reveal(), c.Proxy.No),
		OnRetry: func(err error, next time.Duration) {
			say("telling %s how this ended: %v; next try in %s", c.Report.URL, err, next.Round(time.Second))
		},
	}
	if err := post.Deliver(ctx); err != nil {
		say("warning: %v; the host is %s all the same", err, status.State)
		return
	}
	say("told %s that this host is %s", c.Report.URL, status.State)
}

// InstallStage names, in what report.url is told, the writing of a disk from a
// live root: no stage of a run.
const InstallStage = "install"

// ReportInstall tells report.url that a disk could not be written, in the form
// of a status with this one stage: a pipeline sees the host end nowhere
// otherwise. An interruption is no end, and is not told.
func ReportInstallFailure(ctx context.Context, o Options, loaded *config.Loaded, began time.Time, failure error, say func(string, ...any)) {
	if loaded == nil || loaded.Config.Report.URL == "" || failure == nil || ctx.Err() != nil {
		return
	}
	s, err := open(o)
	if err != nil {
		say("warning: cannot tell %s how this ended: %v", loaded.Config.Report.URL, err)
		return
	}
	failure = newMask(s.state, loaded.Config).err(failure)
	st, now := state.Failed, time.Now()
	if refused(failure) {
		st = state.Refused
	}
	j := state.Journal{
		State: st, Version: o.Version, ConfigDigest: loaded.Digest, Machine: s.this, Attempt: 1, Started: began, Finished: now,
		Stages: []state.Stage{{
			Name: InstallStage, State: state.StageFailed, Attempts: 1, Seconds: now.Sub(began).Seconds(),
			Error: failure.Error(), Hint: engine.Hint(failure),
		}},
	}
	status := report.FromJournal(j, []string{InstallStage})
	status.Advice = report.Advice{Next: "the next boot of the live root tries again", Type: []string{"journalctl -u firstboot-disk"}}
	s.deliver(ctx, loaded.Config, status, say)
}
