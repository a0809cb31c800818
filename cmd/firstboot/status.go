package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
)

// forever is the value of --wait without a duration. It is the placeholder that
// pflag prints in -h: --wait[=DURATION].
const forever = "DURATION"

func (c *cli) status() *cobra.Command {
	var wait string
	cmd := &cobra.Command{
		Use:   "status [--wait[=DURATION]]",
		Short: "Show the state of this host",
		Long: `Shows the state of this host and its stages. On a complete host it checks every
stage on the live machine.

With --wait it first waits for the end of the run, including a run that has not
started yet in this boot.`,
		Example: "  firstboot status\n  firstboot status --wait=10m && echo joined\n  firstboot status -o json",
		Annotations: codes("0    complete", "1    the run failed", "2    usage error", "4    the run was refused", "7    a run is in progress", "8    not started",
			"9    drifted: changed since it was complete", "10   the marker belongs to another machine",
			"11   unknown, a check failed", "12   this host left the network", "124  --wait timed out"),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doStatus(cmd, cmd.Flags().Changed("wait"), wait) },
	}
	cmd.Flags().Var(&waitFlag{&wait}, "wait", "wait until the run has ended, for at most DURATION if it is given (such as --wait=10m)")
	cmd.Flags().Lookup("wait").NoOptDefVal = forever
	return cmd
}

// waitFlag is the value of --wait.
type waitFlag struct{ text *string }

// Set sets the value.
func (f *waitFlag) Set(s string) error { *f.text = s; return nil }

func (f *waitFlag) String() string { return *f.text }

// Type returns the type for which pflag prints no name before [=DURATION].
func (f *waitFlag) Type() string { return "bool" }

func (c *cli) doStatus(cmd *cobra.Command, waits bool, wait string) error {
	timedOut := false
	if waits {
		var err error
		if timedOut, err = c.waitForRun(cmd.Context(), wait); err != nil {
			return err
		}
	}
	status, err := app.Status(cmd.Context(), c.options())
	if err != nil {
		return err
	}
	if c.json() {
		err = c.printJSON(status)
	} else {
		err = status.WriteText(c.out, c.terminal(), time.Now())
	}
	if err != nil {
		return err
	}
	if timedOut {
		return exitWith(app.ExitTimeout)
	}
	return exitWith(app.StateExitCode(status.State))
}

func (c *cli) waitForRun(ctx context.Context, limit string) (timedOut bool, err error) {
	if limit != forever {
		d, err := time.ParseDuration(limit)
		if err != nil || d <= 0 {
			return false, &app.UsageError{Err: engine.WithHint(fmt.Errorf("cannot wait for %q: not a duration", limit), "use --wait=10m, --wait=90s or --wait alone")}
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return app.WaitForRun(ctx, c.options(), c.errs)
}
