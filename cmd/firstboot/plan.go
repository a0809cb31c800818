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
		Short: "Show what run would change, and change nothing",
		Long: `Checks every stage and shows what differs, files as a diff. Nothing is changed.
Without root some checks cannot be made; each that could not says so.`,
		Example: "  firstboot plan\n  firstboot plan --config new.yaml -o json\n  firstboot plan --root /mnt/image",
		Annotations: codes("0    nothing would change", "2    usage", "3    the configuration is invalid", "6    something would change",
			"11   cannot tell: a check could not be made"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks, err := app.Plan(cmd.Context(), c.options(), force)
			if err != nil {
				return err
			}
			return c.showChecks(checks, app.ExitPending, report.Labels{Differs: "would change", Stops: "would stop", Summary: planSummary})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "with the configuration as its files are now, as run --force would")
	return cmd
}

func planSummary(c report.Checks) string {
	stopping := c.Stopping()
	switch {
	case len(stopping) > 0 && len(stopping) < c.Differing:
		return fmt.Sprintf("a run would stop at %s; not as wanted besides: %d of %d stages", strings.Join(stopping, ", "), c.Differing-len(stopping), len(c.Stages))
	case len(stopping) > 0:
		return "a run would stop at " + strings.Join(stopping, ", ")
	case c.Differing > 0:
		return fmt.Sprintf("%d of %d stages would change something", c.Differing, len(c.Stages))
	case c.Unknown > 0:
		return fmt.Sprintf("cannot tell: %d of %d checks could not be made", c.Unknown, len(c.Stages))
	}
	return "nothing would change"
}

// showChecks prints checks and gives their exit code.
func (c *cli) showChecks(checks report.Checks, differs int, labels report.Labels) error {
	var err error
	if c.json() {
		err = c.print(checks)
	} else {
		err = checks.WriteText(c.out, c.terminal(), labels)
	}
	switch {
	case err != nil:
		return err
	case checks.Differing > 0:
		return end(differs)
	case checks.Unknown > 0:
		return end(app.ExitUnknown)
	}
	return nil
}
