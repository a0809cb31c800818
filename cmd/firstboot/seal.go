package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// sealFlags are those of seal.
type sealFlags struct {
	check, plan, yes bool
	golden.SealOptions
}

func (c *cli) seal() *cobra.Command {
	var f sealFlags
	cmd := &cobra.Command{
		Use:   "seal [--root DIR] [--check | --plan]",
		Short: "Make an image ready to be cloned",
		Long: `Takes out of an image what its clones must not inherit: firstboot's marker and
journal, Calico's node identity, the machine-id, SSH host keys, cloud-init's
instance, DHCP leases, random seeds, Docker's key. Artifacts in a bundle stay.

Without --root it seals the machine that it runs on, from inside an image builder
or before its disk is captured; on a terminal it asks first.`,
		Example: "  firstboot seal --root /mnt/image\n  firstboot seal --root /mnt/image --check\n  firstboot seal --yes && poweroff",
		Annotations: codes("0    sealed; with --check: nothing is left", "1    something is left, or could not be removed", "2    usage",
			"5    a run is under way on this machine", "6    something would be removed (--plan)"),
		RunE: func(*cobra.Command, []string) error { return c.doSeal(f) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.check, "check", false, "only say what is left: exit 1 if anything is")
	flags.BoolVar(&f.plan, "plan", false, "only say what would be removed: exit 6 if anything would")
	flags.BoolVar(&f.yes, "yes", false, "do not ask, also on a terminal")
	flags.BoolVar(&f.Uninitialized, "uninitialized", false, "write uninitialized into /etc/machine-id, for ConditionFirstBoot= (on Debian systemd then enables every unit)")
	flags.BoolVar(&f.KeepCache, "keep-cache", false, "leave firstboot's cache of downloads in the image")
	return cmd
}

// sealed is seal's -o json.
type sealed struct {
	Root    string            `json:"root"`
	Sealed  bool              `json:"sealed"`
	Removed []golden.Identity `json:"removed"`
	Left    []golden.Identity `json:"left"`
	Added   []golden.Change   `json:"added"`
}

func (c *cli) doSeal(f sealFlags) error {
	h := host.New(c.root, host.Offline())
	if f.check && f.plan {
		return &app.UsageError{Err: hint(errors.New("--check and --plan exclude each other"), "firstboot seal --check")}
	}
	identities, err := golden.Identities(h, f.SealOptions)
	if err != nil {
		return readableAs(err)
	}
	if f.check || f.plan {
		return c.showIdentities(h, f, identities)
	}
	if h.Live() {
		if !f.yes && !c.agreed(os.Stdin, identities) {
			return errors.New("not sealed: nothing was changed")
		}
		lock, err := state.AcquireLock(h)
		if err != nil {
			return readableAs(err)
		}
		defer func() { _ = lock.Release() }()
	}
	return c.remove(h, f, identities)
}

// readableAs adds what to do where only root may look.
func readableAs(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return hint(err, "sudo firstboot seal …")
	}
	return err
}

// agreed asks whoever is at a terminal; a pipeline is not asked.
func (c *cli) agreed(in *os.File, identities []golden.Identity) bool {
	if !term.IsTerminal(int(in.Fd())) { //nolint:gosec // descriptors are small
		return true
	}
	c.listIdentities(c.errs, identities)
	fmt.Fprint(c.errs, "This machine will be a new one at its next boot. Remove all this? [y/N] ")
	answer, _ := bufio.NewReader(io.LimitReader(in, 100)).ReadString('\n') // no answer is no
	return answer == "y\n" || answer == "yes\n"
}

// remove seals, and looks again: what is left then is the truth.
func (c *cli) remove(h *host.Host, f sealFlags, identities []golden.Identity) error {
	result := sealed{Root: c.root, Removed: []golden.Identity{}, Added: []golden.Change{}}
	var failed []error
	for _, t := range identities {
		if err := t.Remove(); err != nil {
			failed = append(failed, err)
			continue
		}
		result.Removed = append(result.Removed, t)
	}
	keys, err := golden.HostKeyChanges(h)
	failed = append(failed, err)
	for _, key := range keys {
		failed = append(failed, key.Apply(context.Background()))
		result.Added = append(result.Added, key)
	}
	if result.Left, err = golden.Identities(h, f.SealOptions); err != nil {
		failed = append(failed, err)
	}
	syscall.Sync() // a capture may follow at once
	result.Sealed = len(result.Left) == 0 && errors.Join(failed...) == nil
	return c.showSealed(h, result, errors.Join(failed...))
}
