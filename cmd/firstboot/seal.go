package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// sealFlags are the flags of seal.
type sealFlags struct {
	check, plan, thisMachine, yes bool
	golden.SealOptions
}

func (c *cli) seal() *cobra.Command {
	var f sealFlags
	cmd := &cobra.Command{
		Use:   "seal {--root DIR | --this-machine} [--check | --plan]",
		Short: "Prepare an image for cloning",
		Long: `Removes the machine identity from an image, so that clones do not inherit it:
firstboot's marker and journal, Calico's node name, the machine-id, SSH host keys,
cloud-init's instance, the host name, DHCP leases, random seeds, Docker's key and
the names by which storage and management services know the machine. What seal
cannot remove safely is listed as left. The artifacts in a bundle stay.

--this-machine seals the running machine, inside an image builder or before the
capture of its disk. On a terminal it prompts first; elsewhere it needs --yes.`,
		Example: "  firstboot seal --root /mnt/image\n  firstboot seal --root /mnt/image --check\n  firstboot seal --this-machine --yes && poweroff",
		Annotations: codes("0    sealed; with --check: no machine identity left", "1    machine identity is left, or cannot be removed", "2    usage error, or not confirmed",
			"5    a run is in progress on this machine", "6    --plan: seal would change something"),
		RunE: func(*cobra.Command, []string) error { return c.doSeal(f) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.check, "check", false, "only report what is left: exit 1 if anything is")
	flags.BoolVar(&f.plan, "plan", false, "only show what seal would change: exit 6 if anything")
	flags.BoolVar(&f.thisMachine, "this-machine", false, "seal the running machine: its next boot has a new identity")
	flags.BoolVar(&f.yes, "yes", false, "do not prompt; required with --this-machine if there is no terminal")
	flags.BoolVar(&f.Uninitialized, "uninitialized", false, "write uninitialized to /etc/machine-id, for ConditionFirstBoot= (on Debian, systemd then enables every unit)")
	flags.BoolVar(&f.KeepCache, "keep-cache", false, "keep firstboot's download cache in the image")
	return cmd
}

// sealResult is what seal prints as JSON.
type sealResult struct {
	Root    string            `json:"root"`
	Sealed  bool              `json:"sealed"`
	Removed []golden.Identity `json:"removed"`
	Left    []golden.Identity `json:"left"`
	Added   []golden.Change   `json:"added"`
}

// validate refuses to seal the running machine without consent. It is called
// before anything is examined.
func (f sealFlags) validate(h *host.Host, interactive bool) error {
	usage := func(text, format string, args ...any) error {
		return &app.UsageError{Err: hint(errors.New(text), format, args...)}
	}
	examineOnly := f.check || f.plan
	switch {
	case f.check && f.plan:
		return usage("--check and --plan exclude each other", "firstboot seal --check")
	case !h.Live() && f.thisMachine:
		return usage("--root and --this-machine exclude each other", "firstboot seal --root %s", h.Root())
	case !h.Live() || examineOnly:
		return nil
	case !f.thisMachine:
		return usage("cannot seal: name an image with --root DIR; nothing was changed",
			"to remove the identity of this running machine: firstboot seal --this-machine")
	case !f.yes && !interactive:
		return usage("cannot seal the running machine without --yes: there is no terminal to prompt on; nothing was changed",
			"firstboot seal --this-machine --yes")
	}
	return nil
}

func (c *cli) doSeal(f sealFlags) error {
	h := host.New(c.root, host.Offline())
	if err := f.validate(h, c.interactive()); err != nil {
		return err
	}
	identities, err := golden.Identities(h, f.SealOptions)
	if err != nil {
		return withSudoHint(err)
	}
	if f.check || f.plan {
		return c.reportIdentities(h, f, identities)
	}
	if h.Live() {
		if !f.yes && !confirmSeal(os.Stdin, c.errs, identities) {
			return errors.New("not sealed: nothing was changed")
		}
		lock, err := state.AcquireLock(h, state.CommandSeal)
		if err != nil {
			return withSudoHint(err)
		}
		defer func() { _ = lock.Release() }()
	}
	return c.applySeal(h, f, identities)
}

// withSudoHint adds a hint if only root may do this.
func withSudoHint(err error) error { return withPermissionHint(err, "sudo firstboot seal …") }

// confirmSeal lists what seal would remove, and prompts.
func confirmSeal(in io.Reader, out io.Writer, identities []golden.Identity) bool {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	writeIdentities(out, identities)
	return confirm(in, out, fmt.Sprintf("The next boot gives this machine (%s) a new identity. Remove all of this from it?", name))
}

// applySeal removes the identities, then checks which are left.
func (c *cli) applySeal(h *host.Host, f sealFlags, identities []golden.Identity) error {
	result := sealResult{Root: c.root, Removed: []golden.Identity{}, Added: []golden.Change{}}
	var failed []error
	for _, item := range identities {
		if err := item.Remove(); err != nil {
			failed = append(failed, err)
			continue
		}
		result.Removed = append(result.Removed, item)
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
	syscall.Sync() // the disk may be captured at once
	result.Sealed = len(result.Left) == 0 && errors.Join(failed...) == nil
	return c.printSealed(h, result, errors.Join(failed...))
}
