package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
)

func (c *cli) leave() *cobra.Command {
	var f leaveFlags
	cmd := &cobra.Command{
		Use:   "leave [--plan] [--force] [--yes]",
		Short: "Remove this host from its network",
		Long: `Stops and disables calico-node and the network plugin, removes this host's Node
from the cluster and disables firstboot, so that the next boot does not join
again. The pool, the Profile and the Docker network belong to the cluster and
stay. If containers use the network, leave lists them and refuses.

On a terminal it prompts first. Elsewhere it needs --yes.`,
		Example: "  firstboot leave --plan\n  firstboot leave\n  firstboot leave --yes -o json",
		Annotations: works(codes("0    this host has left", "1    a step failed; run the command again", "2    usage error, not confirmed, or not root", "3    the configuration is invalid",
			"4    refused: containers use the network", "5    a run holds the lock", "6    --plan: leave would change something", "11   --plan: unknown, a check failed", "130  interrupted")),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doLeave(cmd, f) },
	}
	cmd.Flags().BoolVar(&f.plan, "plan", false, "show what leave would change, without changing anything")
	cmd.Flags().BoolVar(&f.force, "force", false, "leave even if containers lose their network")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not prompt")
	return cmd
}

// leaveFlags are the flags of leave.
type leaveFlags struct{ plan, force, yes bool }

// validate refuses to leave without consent. It is called before anything is
// examined.
func (f leaveFlags) validate(h *host.Host, interactive bool) error {
	switch {
	case !h.Live():
		return &app.UsageError{Err: hint(errors.New("leave works on the running machine, not on a directory"), "firstboot seal --root %s prepares an image for cloning", h.Root())}
	case f.plan && f.yes:
		return &app.UsageError{Err: hint(errors.New("--plan and --yes exclude each other"), "firstboot leave --plan")}
	case !f.plan && !f.yes && !interactive:
		return &app.UsageError{Err: hint(errors.New("cannot leave without --yes: there is no terminal to prompt on; nothing was changed"), "firstboot leave --yes")}
	}
	return nil
}

func (c *cli) doLeave(cmd *cobra.Command, f leaveFlags) error {
	if err := f.validate(host.New(c.root), c.interactive()); err != nil {
		return err
	}
	if f.plan {
		checks, err := app.PlanLeave(cmd.Context(), c.options(), f.force)
		if err != nil {
			return err
		}
		return c.printChecks(checks, app.ExitPending, report.Labels{Differs: "would change", Stops: "would stop", Summary: leaveSummary})
	}
	if os.Geteuid() != 0 {
		return &app.UsageError{Err: hint(errors.New("leave must be started as root: it changes this machine"), "sudo firstboot leave")}
	}
	ctx, stop := app.NotifyContext(cmd.Context())
	defer stop()
	if !f.yes && !confirmLeave(os.Stdin, c.errs) {
		return errors.New("not left: nothing was changed")
	}
	o := app.RunOptions{Options: c.options(), Force: f.force, Out: c.progress(), Err: c.errs, Terminal: c.terminal()}
	if c.json() {
		o.Out, o.Terminal = c.errs, report.TerminalOf(c.errs, os.Getenv)
	}
	return c.printRecordedStatus(o.Options, app.Leave(ctx, o))
}

// confirmLeave names this host, and prompts.
func confirmLeave(in io.Reader, out io.Writer) bool {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	return confirm(in, out, fmt.Sprintf("This host (%s) will leave its network and will not join again. Continue?", name))
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
