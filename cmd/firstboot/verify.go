package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
)

func (c *cli) verify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check every stage and ping a container on the network",
		Long: `Checks every stage, then starts a probe container on the network, pings it and
removes it. Nothing else is changed.`,
		Example: "  firstboot verify\n  firstboot verify -o json",
		Annotations: codes("0    every check passed", "2    usage error", "3    the configuration is invalid",
			"5    a run is in progress", "9    a check found a difference", "11   unknown, a check failed"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !host.New(c.root).Live() {
				return &app.UsageError{Err: hint(errors.New("verify checks the running machine, not a directory"), "firstboot status --root %s", c.root)}
			}
			// After a signal the probe container is still removed.
			ctx, stop := app.NotifyContext(cmd.Context())
			defer stop()
			checks, err := app.Verify(ctx, c.options())
			if err != nil {
				return err
			}
			return c.printChecks(checks, app.ExitDrifted, report.Labels{Differs: "differs", Summary: verifySummary})
		},
	}
}

func verifySummary(c report.Checks) string {
	switch {
	case c.Differing > 0:
		return fmt.Sprintf("%d of %d stages differ; firstboot run --force repairs them", c.Differing, len(c.Stages))
	case c.Unknown > 0:
		return unknownSummary(c)
	}
	return "every check passed"
}
