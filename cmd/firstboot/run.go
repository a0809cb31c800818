package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
)

func (c *cli) run() *cobra.Command {
	var o app.RunOptions
	cmd := &cobra.Command{
		Use:   "run [--stage NAME]... [--force]",
		Short: "Make this host a member of its network, or go on with it",
		Long: `Runs the stages: each is checked, changed where something differs, and checked
again. On a complete host it says so and ends at once, without any network.

The configuration of the first run is kept; --force reads the files anew.`,
		Example: "  firstboot run\n  firstboot run --stage sysctl\n  firstboot run --force",
		Annotations: codes("0    complete", "1    a stage failed", "2    usage, or not root", "3    the configuration is invalid",
			"4    preflight refused: nothing was changed", "5    another run holds the lock", "130  interrupted"),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doRun(cmd, o) },
	}
	cmd.Flags().StringArrayVar(&o.Stages, "stage", nil, "run only the stage `NAME` and what it needs (repeatable)")
	cmd.Flags().BoolVar(&o.Force, "force", false, "run even if the host is complete, with the configuration as its files are now")
	return cmd
}

func (c *cli) doRun(cmd *cobra.Command, o app.RunOptions) error {
	o.Options = c.options()
	if !host.New(c.root).Live() {
		return c.refuseRoot(cmd, o.Options)
	}
	if os.Geteuid() != 0 {
		return &app.UsageError{Err: hint(errors.New("run changes this machine and must be started by root"), "sudo firstboot run")}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A reader that goes away (run | head) must not end the run. With a
	// handler, unlike with SIG_IGN, commands start with the default action.
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, syscall.SIGPIPE)
	defer signal.Stop(gone)
	o.Out, o.Err, o.Terminal = c.out, c.errs, c.terminal()
	if c.json() {
		o.Out, o.Terminal = c.errs, report.TerminalOf(c.errs, os.Getenv)
	}
	err := app.Run(ctx, o)
	var told *app.ReportedError
	if !c.json() || err != nil && !errors.As(err, &told) {
		return err
	}
	status, broken := app.RecordedStatus(o.Options)
	if broken != nil {
		return errors.Join(err, broken)
	}
	return errors.Join(err, c.print(status))
}

// refuseRoot tells what is wrong with an image's configuration, else that an
// image cannot be run.
func (c *cli) refuseRoot(cmd *cobra.Command, o app.Options) error {
	if _, err := app.Validate(cmd.Context(), o); err != nil {
		return err
	}
	return &app.UsageError{Err: hint(fmt.Errorf("cannot run on %s: the stages need the running machine", c.root),
		"firstboot plan --root %s shows what would change", c.root)}
}
