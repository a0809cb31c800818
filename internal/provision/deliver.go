package provision

import (
	"context"
	"encoding/json"
	"time"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/journal"
	"github.com/projecteru2/firstboot/internal/report"
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
	case journal.Complete, journal.Failed, journal.Refused:
	default: // only a few stages were asked for
		return
	}
	r.advise(&status)
	body, err := json.Marshal(status)
	if err != nil {
		r.console.Say("warning: cannot tell %s how this ended: %v", r.loaded.Config.Report.URL, err)
		return
	}
	c := r.loaded.Config
	post := webhook.Post{
		URL: c.Report.URL, Body: body, Agent: "firstboot/" + r.Version, Host: r.state.Hostname(),
		Proxy: artifact.Proxies(c.Proxy.HTTP.Reveal(), c.Proxy.HTTPS.Reveal(), c.Proxy.No),
		Retrying: func(err error, next time.Duration) {
			r.console.Say("telling %s how this ended: %v; next try in %s", c.Report.URL, err, next.Round(time.Second))
		},
	}
	if err := post.Deliver(ctx); err != nil {
		r.console.Say("warning: %v; the host is %s all the same", err, status.State)
		return
	}
	r.console.Say("told %s that this host is %s", c.Report.URL, status.State)
}
