package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
)

// report posts the report that the last run has written. firstboot-report.service
// runs it.
func (c *cli) report() *cobra.Command {
	return &cobra.Command{
		Use:   "report",
		Short: "Post the report of the last run to report.url",
		Long: `Posts the report that the last run has written to /var/lib/firstboot/report.json
to report.url, and removes it when the server has accepted it. It retries for a
day. A report that was not delivered stays for the next boot.`,
		Example:     "  firstboot report",
		Annotations: codes("0    delivered, or nothing to report", "1    not delivered", "2    usage error", "130  interrupted"),
		Hidden:      true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := app.NotifyContext(cmd.Context())
			defer stop()
			return app.DeliverReport(ctx, c.options(), func(format string, args ...any) {
				// The service's journal; the report is delivered anyway.
				_, _ = fmt.Fprintf(c.errs, "firstboot: "+format+"\n", args...)
			})
		},
	}
}
