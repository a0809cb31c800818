package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/dockerd"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/minions"
	"github.com/projecteru2/firstboot/units"
)

const (
	pluginInterval = 500 * time.Millisecond // between two queries
	pluginMessages = 10 * time.Second       // between two lines of output
	pluginTimeout  = 5 * time.Second        // of one query
)

// waitPlugin runs before docker.service starts. Docker does not start containers
// whose plugin does not answer, and does not retry.
func (c *cli) waitPlugin() *cobra.Command {
	var limit time.Duration
	cmd := &cobra.Command{
		Use:         "wait-plugin --for DURATION",
		Short:       "Wait until Docker's network plugin and the adapter answer on their sockets",
		Example:     "  firstboot wait-plugin --for 15m",
		Annotations: works(codes("0    all sockets answer", "1    timed out", "2    usage error")),
		Hidden:      true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := app.NotifyContext(cmd.Context())
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			if err := c.doWaitPlugin(ctx, host.New(c.root), limit); err != nil {
				return err
			}
			c.restoreNetwork(ctx)
			c.removeStale(ctx)
			return nil
		},
	}
	cmd.Flags().DurationVar(&limit, "for", 15*time.Minute, "time out after `DURATION`")
	return cmd
}

// removeStale removes stale endpoints if it can: Docker must start in any case.
func (c *cli) removeStale(ctx context.Context) {
	summary, err := app.RemoveStale(ctx, c.options())
	if summary != "" {
		fmt.Fprintf(c.progress(), "firstboot: %s\n", summary)
	}
	if err != nil {
		fmt.Fprintf(c.errs, "firstboot: warning: %v\n", err)
	}
}

func (c *cli) doWaitPlugin(ctx context.Context, h *host.Host, limit time.Duration) error {
	began, printed := time.Now(), time.Time{}
	ticker := time.NewTicker(pluginInterval)
	defer ticker.Stop()
	var missing []string
	for {
		// After the deadline the errors of the last complete query are kept.
		if now := failingSockets(ctx, h); ctx.Err() == nil || len(now) == 0 || missing == nil {
			missing = now
		}
		if len(missing) == 0 {
			fmt.Fprintf(c.progress(), "firstboot: the network plugin answers after %.1fs\n", time.Since(began).Seconds())
			return nil
		}
		if time.Since(printed) >= pluginMessages && ctx.Err() == nil {
			printed = time.Now()
			fmt.Fprintf(c.progress(), "firstboot: waiting for the network plugin (eru-minions) for %.0fs, timeout %v: %s\n",
				time.Since(began).Seconds(), limit, strings.Join(missing, "; "))
		}
		select {
		case <-ctx.Done():
			if ctx.Err() == context.Canceled {
				return context.Cause(ctx)
			}
			return hint(fmt.Errorf("the network plugin timed out after %v: %s", limit, strings.Join(missing, "; ")),
				"systemctl status eru-minions (the plugin needs etcd)")
		case <-ticker.C:
		}
	}
}

// failingSockets returns an error text for each socket that does not answer.
func failingSockets(ctx context.Context, h *host.Host) []string {
	var missing []string
	local := minions.IsLocal(h)
	for _, socket := range minions.Sockets(local) {
		queryCtx, cancel := context.WithTimeout(ctx, pluginTimeout)
		_, err := dockerd.NewPlugin(h, socket.Path).Activate(queryCtx)
		cancel()
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", socket.Path, err))
		}
	}
	// A run that ended before it enabled the adapter must not delay Docker: without the
	// socket Docker's calls fail at once.
	if !local || !h.Exists(units.AdapterEnabledPath) {
		return missing
	}
	queryCtx, cancel := context.WithTimeout(ctx, pluginTimeout)
	defer cancel()
	if err := adapter.Ready(queryCtx, h); err != nil {
		missing = append(missing, err.Error())
	}
	return missing
}

// restoreNetwork makes the adapter of a complete host know its network: without it
// Docker gives up the containers on it when it starts.
func (c *cli) restoreNetwork(ctx context.Context) {
	restored, err := app.RestoreNetwork(ctx, c.options())
	if restored {
		fmt.Fprintf(c.progress(), "firstboot: restored %s\n", adapter.Path)
	}
	if err != nil {
		fmt.Fprintf(c.errs, "firstboot: warning: %v\n", err)
	}
}
