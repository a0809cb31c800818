package main

import (
	"fmt"
	"io"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
)

func (c *cli) listIdentities(out io.Writer, identities []golden.Identity) {
	for _, t := range identities {
		fmt.Fprintf(out, "%-6s %-17s %s: %s\n", t.Action, t.Name, t.Path, t.Why)
	}
}

// showIdentities is seal --check and seal --plan.
func (c *cli) showIdentities(h *host.Host, f sealFlags, identities []golden.Identity) error {
	keys, err := golden.HostKeyChanges(h)
	if err != nil {
		return readableAs(err)
	}
	if f.check {
		keys = nil
	}
	if c.json() {
		err = c.print(sealed{Root: c.root, Sealed: len(identities) == 0, Removed: []golden.Identity{}, Left: identities, Added: append([]golden.Change{}, keys...)})
	} else {
		err = c.tellIdentities(f, identities, keys)
	}
	switch {
	case err != nil || len(identities) == 0 && len(keys) == 0:
		return err
	case f.plan:
		return end(app.ExitPending)
	}
	return end(app.ExitFailed)
}

func (c *cli) tellIdentities(f sealFlags, identities []golden.Identity, keys []golden.Change) error {
	c.listIdentities(c.out, identities)
	for _, key := range keys {
		fmt.Fprintf(c.out, "%-6s %-17s %s: nothing in the image makes SSH host keys at boot\n", key.Action, "ssh-host-keys", key.Path)
	}
	text := "nothing of one machine is left in " + c.root
	switch {
	case len(identities) > 0 && f.check:
		text = fmt.Sprintf("%s of machine identity left in %s; %s removes what can be removed", count(len(identities), "item"), c.root, c.sealCommand())
	case len(identities)+len(keys) > 0:
		text = fmt.Sprintf("%s in %s", count(len(identities)+len(keys), "change"), c.root)
	}
	_, err := fmt.Fprintln(c.out, text)
	return err
}

func (c *cli) sealCommand() string {
	if c.root == "/" {
		return "firstboot seal"
	}
	return "firstboot seal --root " + c.root
}

// showSealed says what a seal did.
func (c *cli) showSealed(h *host.Host, r sealed, err error) error {
	if c.json() {
		if shown := c.print(r); shown != nil {
			return shown
		}
		if !r.Sealed {
			return end(app.ExitFailed)
		}
		return nil
	}
	c.listIdentities(c.out, r.Removed)
	for _, key := range r.Added {
		fmt.Fprintf(c.out, "%-6s %-17s %s: nothing in the image makes SSH host keys at boot\n", key.Action, "ssh-host-keys", key.Path)
	}
	if !r.Sealed {
		if err == nil {
			c.listIdentities(c.errs, r.Left)
			err = fmt.Errorf("%s of machine identity left in %s", count(len(r.Left), "item"), c.root)
		}
		return fmt.Errorf("not sealed: %w", err)
	}
	fmt.Fprintf(c.out, "sealed %s: %s of machine identity removed\n", c.root, count(len(r.Removed), "item"))
	if h.Live() {
		fmt.Fprintln(c.out, "power off now: what still runs makes such things anew, and systemd saves a random seed at shutdown;\nprove the captured disk with: firstboot seal --check --root DIR")
	}
	return nil
}
