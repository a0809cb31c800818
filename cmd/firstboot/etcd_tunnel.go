package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/tunnel"
)

// etcdTunnel serves Docker's network plugin, which cannot use TLS.
// firstboot-etcd.service runs it.
func (c *cli) etcdTunnel() *cobra.Command {
	return &cobra.Command{
		Use:   "etcd-tunnel",
		Short: "Serve root on " + tunnel.Address + " with the etcd that requires TLS",
		Long: `Listens on ` + tunnel.Address + `, accepts root's connections only, and connects
them with TLS to etcd.endpoints of the saved configuration. It presents the client
certificate of the configuration and reads its files again for each connection.
It ends with SIGTERM.`,
		Example: "  firstboot etcd-tunnel",
		Annotations: codes("0    stopped by a signal", "1    cannot listen, or no configuration is saved", "2    usage error",
			"3    the saved configuration has no etcd with TLS"),
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := app.NotifyContext(cmd.Context())
			defer stop()
			err := app.ServeTunnel(ctx, c.options(), c.logTunnel)
			if ctx.Err() != nil {
				return nil
			}
			return err
		},
	}
}

// logTunnel prints a line of the tunnel. The system journal reads the priority at
// its start (sd-daemon(3)).
func (c *cli) logTunnel(level tunnel.Level, line string) {
	prefix := ""
	if os.Getenv("JOURNAL_STREAM") != "" {
		prefix = fmt.Sprintf("<%d>", level)
	}
	fmt.Fprintf(c.errs, "%sfirstboot etcd-tunnel: %s\n", prefix, line)
}
