package main

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/adapter"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/units"
)

// The adapter runs as long as the host, so it uses little memory: of the 20 MB
// (RssAnon) that it may have, the heap gets a part. The rest is for stacks and the
// runtime.
const (
	adapterHeapGrowth  = 50       // percent, as GOGC
	adapterMemoryLimit = 14 << 20 // bytes, as GOMEMLIMIT
)

// adapter runs between Docker and the network plugin. firstboot-adapter.service
// runs it.
func (c *cli) adapter() *cobra.Command {
	return &cobra.Command{
		Use:   "adapter",
		Short: "Answer Docker's calls of the network plugin on a host with a local network",
		Long: `Answers Docker's calls on the socket of firstboot-adapter.socket and passes them
to eru-minions. It needs no configuration and no etcd. It ends when it is stopped,
after it has finished the calls in flight.`,
		Example:     "  systemctl start " + units.AdapterSocket,
		Annotations: codes("0    stopped", "1    cannot accept calls", "2    usage error"),
		Hidden:      true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			listeners, err := activation.Listeners()
			if err != nil {
				return fmt.Errorf("cannot use the socket of systemd: %w", err)
			}
			if len(listeners) != 1 || listeners[0] == nil {
				return &app.UsageError{Err: hint(errors.New("firstboot adapter needs one socket from systemd"), "systemctl start %s", units.AdapterSocket)}
			}
			debug.SetGCPercent(adapterHeapGrowth)
			debug.SetMemoryLimit(adapterMemoryLimit)
			ctx, stop := app.NotifyContext(cmd.Context())
			defer stop()
			return adapter.New(host.New(c.root), func(line string) {
				fmt.Fprintf(c.errs, "firstboot: %s\n", line)
			}).Serve(ctx, listeners[0])
		},
	}
}
