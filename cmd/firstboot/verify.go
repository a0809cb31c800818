package main

import (
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
)

func (c *cli) verify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check everything now, a container on the network included",
		Long: `Makes every check of every stage, and starts a container on the network, pings it
and removes it again. Nothing else is changed.`,
		Example: "  firstboot verify\n  firstboot verify -o json",
		Annotations: codes("0    everything is as it should be", "2    usage", "3    the configuration is invalid",
			"5    a run is under way", "9    something is not as it should be", "11   cannot tell: a check could not be made"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !host.New(c.root).Live() {
				return &app.UsageError{Err: hint(errors.New("verify looks at the running machine, not at a folder"), "firstboot status --root %s", c.root)}
			}
			// A signal ends the test, which then removes its container.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			checks, err := app.Verify(ctx, c.options())
			if err != nil {
				return err
			}
			return c.showChecks(checks, app.ExitDrifted, report.Labels{Differs: "WRONG", Summary: verifySummary})
		},
	}
}

func verifySummary(c report.Checks) string {
	switch {
	case c.Differing > 0:
		return fmt.Sprintf("%d of %d stages are not as they should be; firstboot run --force makes them so", c.Differing, len(c.Stages))
	case c.Unknown > 0:
		return fmt.Sprintf("cannot tell: %d of %d checks could not be made", c.Unknown, len(c.Stages))
	}
	return "everything is as it should be"
}
