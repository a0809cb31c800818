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
		Short: "Take this host out of its network",
		Long: `Stops calico-node and the network plugin for good, removes this host's Node from
the cluster, and keeps firstboot from joining again at the next boot. Pool,
Profile and Docker network are the cluster's and stay. While containers are on
the network it lists them and refuses.`,
		Example: "  firstboot leave --plan\n  firstboot leave",
		Annotations: codes("0    this host has left", "1    a step failed; call it again", "2    usage, or not root", "3    the configuration is invalid",
			"4    refused: containers are on the network", "5    a run holds the lock", "6    --plan: something would change", "11   --plan: a check could not be made", "130  interrupted"),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doLeave(cmd, plan, force) },
	}
	cmd.Flags().BoolVar(&plan, "plan", false, "show what would change, and change nothing")
	cmd.Flags().BoolVar(&force, "force", false, "even if containers lose their network")
	return cmd
}

func (c *cli) doLeave(cmd *cobra.Command, plan, force bool) error {
	if !host.New(c.root).Live() {
		return &app.UsageError{Err: hint(errors.New("leave works on the running machine, not on a folder"), "firstboot seal --root %s makes an image ready to be cloned", c.root)}
	}
	if plan {
		checks, err := app.PlanLeave(cmd.Context(), c.options(), force)
		if err != nil {
			return err
		}
		return c.showChecks(checks, app.ExitPending, report.Labels{Differs: "would change", Stops: "would stop", Summary: leaveSummary})
	}
	if os.Geteuid() != 0 {
		return &app.UsageError{Err: hint(errors.New("leave changes this machine and must be started by root"), "sudo firstboot leave")}
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
		return fmt.Sprintf("cannot tell: %d of %d checks could not be made", c.Unknown, len(c.Stages))
	}
	return "this host is no member of the network"
}
