package main

import (
	"fmt"
	"io"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
)

func (a *cli) listIdentities(out io.Writer, identities []golden.Identity) {
	for _, t := range identities {
		fmt.Fprintf(out, "%-6s %-17s %s: %s\n", t.Action, t.Name, t.Path, t.Why)
	}
}

// showIdentities is seal --check and seal --plan.
func (a *cli) showIdentities(h *host.Host, f sealFlags, identities []golden.Identity) error {
	keys, err := golden.HostKeyChanges(h)
	if err != nil {
		return readableAs(err)
	}
	if f.check {
		keys = nil
	}
	if a.json() {
		err = a.print(sealed{Root: a.root, Sealed: len(identities) == 0, Removed: []golden.Identity{}, Left: identities, Added: append([]golden.Change{}, keys...)})
	} else {
		err = a.tellIdentities(f, identities, keys)
	}
	switch {
	case err != nil || len(identities) == 0 && len(keys) == 0:
		return err
	case f.plan:
		return end(app.ExitPending)
	}
	return end(app.ExitFailed)
}

func (a *cli) tellIdentities(f sealFlags, identities []golden.Identity, keys []golden.Change) error {
	a.listIdentities(a.out, identities)
	for _, c := range keys {
		fmt.Fprintf(a.out, "%-6s %-17s %s: nothing in the image makes SSH host keys at boot\n", c.Action, "ssh-host-keys", c.Path)
	}
	text := "nothing of one machine is left in " + a.root
	switch {
	case len(identities) > 0 && f.check:
		text = fmt.Sprintf("%s of machine identity left in %s; %s removes what can be removed", count(len(identities), "item"), a.root, a.sealCommand())
	case len(identities)+len(keys) > 0:
		text = fmt.Sprintf("%s in %s", count(len(identities)+len(keys), "change"), a.root)
	}
	_, err := fmt.Fprintln(a.out, text)
	return err
}

func (a *cli) sealCommand() string {
	if a.root == "/" {
		return "firstboot seal"
	}
	return "firstboot seal --root " + a.root
}

// showSealed says what a seal did.
func (a *cli) showSealed(h *host.Host, r sealed, err error) error {
	if a.json() {
		if shown := a.print(r); shown != nil {
			return shown
		}
		if !r.Sealed {
			return end(app.ExitFailed)
		}
		return nil
	}
	a.listIdentities(a.out, r.Removed)
	for _, c := range r.Added {
		fmt.Fprintf(a.out, "%-6s %-17s %s: nothing in the image makes SSH host keys at boot\n", c.Action, "ssh-host-keys", c.Path)
	}
	if !r.Sealed {
		if err == nil {
			a.listIdentities(a.errs, r.Left)
			err = fmt.Errorf("%s of machine identity left in %s", count(len(r.Left), "item"), a.root)
		}
		return fmt.Errorf("not sealed: %w", err)
	}
	fmt.Fprintf(a.out, "sealed %s: %s of machine identity removed\n", a.root, count(len(r.Removed), "item"))
	if h.Live() {
		fmt.Fprintln(a.out, "power off now: what still runs makes such things anew, and systemd saves a random seed at shutdown;\nprove the captured disk with: firstboot seal --check --root DIR")
	}
	return nil
}
