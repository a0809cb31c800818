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
		Short: "Make this host a member of its network, or continue an interrupted run",
		Long: `Runs the stages. Each stage checks the machine, makes the necessary changes and
checks again. On a complete host, run exits at once and needs no network; with
--stage it runs these stages, and the host stays complete if they pass.

run keeps using the configuration of the first run. --force reads the
configuration files again.`,
		Example: "  firstboot run\n  firstboot run --stage sysctl\n  firstboot run --force",
		Annotations: works(codes("0    complete", "1    a stage failed", "2    usage error, or not root", "3    the configuration is invalid",
			"4    preflight refused; nothing was changed", "5    another run holds the lock", "12   started by systemd on a host that left", "130  interrupted")),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doRun(cmd, o) },
	}
	cmd.Flags().StringArrayVar(&o.Stages, "stage", nil, "run only the stage `NAME` and the stages that it needs (repeatable)")
	cmd.Flags().BoolVar(&o.Force, "force", false, "run even if the host is complete, and read the configuration files again")
	return cmd
}

func (c *cli) doRun(cmd *cobra.Command, o app.RunOptions) error {
	o.Options = c.options()
	if !host.New(c.root).Live() {
		return c.explainRoot(cmd, o.Options)
	}
	if os.Geteuid() != 0 {
		return &app.UsageError{Err: hint(errors.New("run must be started as root: it changes this machine"), "sudo firstboot run")}
	}
	ctx, stop := app.NotifyContext(cmd.Context())
	defer stop()
	// A closed output (run | head) must not end the run. With a handler, unlike
	// with SIG_IGN, child processes start with the default action.
	brokenPipe := make(chan os.Signal, 1)
	signal.Notify(brokenPipe, syscall.SIGPIPE)
	defer signal.Stop(brokenPipe)
	o.Out, o.Err, o.Terminal = c.progress(), c.errs, c.terminal()
	if c.json() {
		o.Out, o.Terminal = c.errs, report.TerminalOf(c.errs, os.Getenv)
	}
	return c.printRecordedStatus(o.Options, app.Run(ctx, o))
}

// printRecordedStatus prints, with -o json, the status after a command that
// returned err. An error that the command has not reported is the document
// instead.
func (c *cli) printRecordedStatus(o app.Options, err error) error {
	var reported *app.ReportedError
	if !c.json() || err != nil && !errors.As(err, &reported) {
		return err
	}
	status, statusErr := app.RecordedStatus(o)
	if statusErr != nil {
		return errors.Join(err, statusErr)
	}
	return errors.Join(err, c.printJSON(status))
}

// explainRoot reports the errors of an image's configuration, else that run
// does not work on an image.
func (c *cli) explainRoot(cmd *cobra.Command, o app.Options) error {
	if _, err := app.Validate(cmd.Context(), o); err != nil {
		return err
	}
	return &app.UsageError{Err: hint(fmt.Errorf("cannot run on %s: the stages need a running machine", c.root),
		"firstboot plan --root %s shows what would change", c.root)}
}
