package main

import (
	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/stages"
)

// probeContainer runs in the probe container of the verify stage, into which this
// binary is mounted. It waits until it is stopped.
func (c *cli) probeContainer() *cobra.Command {
	return &cobra.Command{
		Use:         stages.ProbeCommand,
		Short:       "Wait until stopped, as the process of the probe container",
		Example:     "  firstboot " + stages.ProbeCommand,
		Annotations: codes("0    stopped", "2    usage error"),
		Hidden:      true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := app.NotifyContext(cmd.Context())
			defer stop()
			<-ctx.Done()
			return nil
		},
	}
}
