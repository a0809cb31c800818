package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/report"
)

func (c *cli) plan() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "plan [--force]",
		Short: "Show what run would change, without changing anything",
		Long: `Checks every stage and shows the differences, files as a diff. Without root some
checks are not possible; they are shown as unknown.`,
		Example: "  firstboot plan\n  firstboot plan --config new.yaml -o json\n  firstboot plan --root /mnt/image",
		Annotations: codes("0    run would change nothing", "2    usage error", "3    the configuration is invalid", "6    run would change something",
			"11   unknown, a check failed"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks, err := app.Plan(cmd.Context(), c.options(), force)
			if err != nil {
				return err
			}
			return c.printChecks(checks, app.ExitPending, report.Labels{Differs: "would change", Stops: "would stop", Summary: planSummary})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "read the configuration files again, as run --force does")
	return cmd
}

func planSummary(c report.Checks) string {
	stopping := c.Stopping()
	switch {
	case len(stopping) > 0 && len(stopping) < c.Differing:
		others := "1 other stage differs"
		if n := c.Differing - len(stopping); n > 1 {
			others = fmt.Sprintf("%d other stages differ", n)
		}
		return fmt.Sprintf("run would stop at %s; %s", strings.Join(stopping, ", "), others)
	case len(stopping) > 0:
		return "run would stop at " + strings.Join(stopping, ", ")
	case c.Differing > 0:
		return fmt.Sprintf("run would change %d of %d stages", c.Differing, len(c.Stages))
	case c.Unknown > 0:
		return unknownSummary(c)
	}
	return "run would change nothing"
}

// unknownSummary summarizes checks without differences of which some failed.
func unknownSummary(c report.Checks) string {
	return fmt.Sprintf("unknown: %d of %d checks failed", c.Unknown, len(c.Stages))
}

// printChecks prints checks and returns their exit code as an error.
func (c *cli) printChecks(checks report.Checks, differs int, labels report.Labels) error {
	var err error
	if c.json() {
		err = c.printJSON(checks)
	} else {
		err = checks.WriteText(c.out, c.terminal(), labels)
	}
	switch {
	case err != nil:
		return err
	case checks.Differing > 0:
		return exitWith(differs)
	case checks.Unknown > 0:
		return exitWith(app.ExitUnknown)
	}
	return nil
}
