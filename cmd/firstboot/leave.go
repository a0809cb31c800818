package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
)

func (c *cli) leave() *cobra.Command {
	var plan, force bool
	cmd := &cobra.Command{
		Use:   "leave [--plan] [--force]",
		Short: "Remove this host from its network",
		Long: `Stops and disables calico-node and the network plugin, removes this host's Node
from the cluster and disables firstboot, so that the next boot does not join
again. The pool, the Profile and the Docker network belong to the cluster and
stay. If containers use the network, leave lists them and refuses.`,
		Example: "  firstboot leave --plan\n  firstboot leave",
		Annotations: codes("0    this host has left", "1    a step failed; run the command again", "2    usage error, or not root", "3    the configuration is invalid",
			"4    refused: containers use the network", "5    a run holds the lock", "6    --plan: leave would change something", "11   --plan: unknown, a check failed", "130  interrupted"),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doLeave(cmd, plan, force) },
	}
	cmd.Flags().BoolVar(&plan, "plan", false, "show what leave would change, without changing anything")
	cmd.Flags().BoolVar(&force, "force", false, "leave even if containers lose their network")
	return cmd
}

func (c *cli) doLeave(cmd *cobra.Command, plan, force bool) error {
	if !host.New(c.root).Live() {
		return &app.UsageError{Err: hint(errors.New("leave works on the running machine, not on a directory"), "firstboot seal --root %s prepares an image for cloning", c.root)}
	}
	if plan {
		checks, err := app.PlanLeave(cmd.Context(), c.options(), force)
		if err != nil {
			return err
		}
		return c.printChecks(checks, app.ExitPending, report.Labels{Differs: "would change", Stops: "would stop", Summary: leaveSummary})
	}
	if os.Geteuid() != 0 {
		return &app.UsageError{Err: hint(errors.New("leave must be started as root: it changes this machine"), "sudo firstboot leave")}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	o := app.RunOptions{Options: c.options(), Force: force, Out: c.out, Err: c.errs, Terminal: c.terminal()}
	if c.json() {
		o.Out, o.Terminal = c.errs, report.TerminalOf(c.errs, os.Getenv)
	}
	return app.Leave(ctx, o)
}

func leaveSummary(c report.Checks) string {
	if stopping := c.Stopping(); len(stopping) > 0 {
		return fmt.Sprintf("leave would stop at %s; nothing was changed", strings.Join(stopping, ", "))
	}
	if c.Differing > 0 {
		return fmt.Sprintf("%d of %d steps would change something; nothing was changed", c.Differing, len(c.Stages))
	}
	if c.Unknown > 0 {
		return unknownSummary(c)
	}
	return "this host is not a member of the network"
}
