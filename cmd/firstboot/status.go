package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
)

// forever is --wait without a duration.
const forever = "forever"

func (c *cli) status() *cobra.Command {
	var wait string
	cmd := &cobra.Command{
		Use:   "status [--wait[=DURATION]]",
		Short: "Say what is true of this host now",
		Long: `Looks at the machine, not only at its notes: on a complete host every stage is
checked. With --wait it first waits for a run to end, one that is still to come
with this boot included.`,
		Example: "  firstboot status\n  firstboot status --wait=10m && echo joined\n  firstboot status -o json",
		Annotations: codes("0    complete", "1    the run failed", "2    usage", "4    the run was refused", "7    a run is under way", "8    not started",
			"9    drifted: complete once, not true now", "10   the marker belongs to another machine",
			"11   cannot tell: a check could not be made", "124  --wait ran out"),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doStatus(cmd, wait) },
	}
	cmd.Flags().StringVar(&wait, "wait", "", "wait until a run has ended, for `DURATION` at most (such as 10m)")
	cmd.Flags().Lookup("wait").NoOptDefVal = forever
	return cmd
}

func (c *cli) doStatus(cmd *cobra.Command, wait string) error {
	ranOut := false
	if wait != "" {
		var err error
		if ranOut, err = c.wait(cmd.Context(), wait); err != nil {
			return err
		}
	}
	status, err := app.Status(cmd.Context(), c.options())
	if err != nil {
		return err
	}
	if c.json() {
		err = c.print(status)
	} else {
		err = status.WriteText(c.out, c.terminal(), time.Now())
	}
	if err != nil {
		return err
	}
	if ranOut {
		return end(app.ExitTimeout)
	}
	return end(app.StateExitCode(status.State))
}

func (c *cli) wait(ctx context.Context, limit string) (ranOut bool, err error) {
	if limit != forever {
		d, err := time.ParseDuration(limit)
		if err != nil || d <= 0 {
			return false, &app.UsageError{Err: engine.WithHint(fmt.Errorf("cannot wait for %q", limit), "--wait=10m, --wait=90s, or --wait alone")}
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return app.WaitForRun(ctx, c.options(), c.errs)
}
