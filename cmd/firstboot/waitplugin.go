package main

import (
	"context"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/stages"
)

// The pauses of wait-plugin: between two questions, and between two lines.
const (
	pluginAsk  = 500 * time.Millisecond
	pluginSay  = 10 * time.Second
	pluginLate = 5 * time.Second // for one answer
)

// waitPlugin is what docker.service does before it starts: containers whose
// plugin is not there then stay dead.
func (c *cli) waitPlugin() *cobra.Command {
	var limit time.Duration
	cmd := &cobra.Command{
		Use:         "wait-plugin --for DURATION",
		Short:       "Wait until Docker's network plugin answers at both sockets",
		Example:     "  firstboot wait-plugin --for 15m",
		Annotations: codes("0    both answer", "1    they did not in time", "2    usage"),
		Hidden:      true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return c.doWaitPlugin(ctx, host.New(c.root), limit)
		},
	}
	cmd.Flags().DurationVar(&limit, "for", 15*time.Minute, "give up after `DURATION`")
	return cmd
}

func (c *cli) doWaitPlugin(ctx context.Context, h *host.Host, limit time.Duration) error {
	began, said := time.Now(), time.Time{}
	ticker := time.NewTicker(pluginAsk)
	defer ticker.Stop()
	var missing []string
	for {
		if now := silent(ctx, h); ctx.Err() == nil || len(now) == 0 {
			missing = now // else the end of the time is all that they say
		}
		if len(missing) == 0 {
			_, err := fmt.Fprintf(c.out, "firstboot: the network plugin answers, after %.1fs\n", time.Since(began).Seconds())
			return err
		}
		if time.Since(said) >= pluginSay && ctx.Err() == nil {
			said = time.Now()
			fmt.Fprintf(c.out, "firstboot: waiting for the network plugin (eru-minions) since %.0fs, for %v at most: %s\n",
				time.Since(began).Seconds(), limit, strings.Join(missing, "; "))
		}
		select {
		case <-ctx.Done():
			if ctx.Err() == context.Canceled {
				return context.Cause(ctx)
			}
			return hint(fmt.Errorf("the network plugin did not answer within %v: %s", limit, strings.Join(missing, "; ")),
				"systemctl status eru-minions; it needs etcd")
		case <-ticker.C:
		}
	}
}

// silent says of each socket that does not answer why.
func silent(ctx context.Context, h *host.Host) []string {
	var missing []string
	for _, socket := range stages.PluginSockets() {
		asked, cancel := context.WithTimeout(ctx, pluginLate)
		_, err := h.ActivatePlugin(asked, socket)
		cancel()
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", socket, err))
		}
	}
	return missing
}
