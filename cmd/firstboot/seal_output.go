package main

import (
	"fmt"
	"io"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
)

func writeIdentities(out io.Writer, identities []golden.Identity) {
	for _, item := range identities {
		fmt.Fprintf(out, "%-6s %-17s %s: %s\n", item.Action, item.Name, item.Path, item.Why)
	}
}

// reportIdentities prints the result of seal --check and seal --plan.
func (c *cli) reportIdentities(h *host.Host, f sealFlags, identities []golden.Identity) error {
	keys, err := golden.HostKeyChanges(h)
	if err != nil {
		return withSudoHint(err)
	}
	if f.check {
		keys = nil
	}
	if c.json() {
		err = c.printJSON(sealResult{Root: c.root, Sealed: len(identities) == 0, Removed: []golden.Identity{}, Left: identities, Added: append([]golden.Change{}, keys...)})
	} else {
		err = c.printIdentities(f, identities, keys)
	}
	switch {
	case err != nil || len(identities) == 0 && len(keys) == 0:
		return err
	case f.plan:
		return exitWith(app.ExitPending)
	}
	return exitWith(app.ExitFailed)
}

func (c *cli) printIdentities(f sealFlags, identities []golden.Identity, keys []golden.Change) error {
	writeIdentities(c.out, identities)
	for _, key := range keys {
		fmt.Fprintf(c.out, "%-6s %-17s %s: the image does not create SSH host keys at boot\n", key.Action, "ssh-host-keys", key.Path)
	}
	text := "clean: no machine identity left in " + c.root
	switch {
	case len(identities) > 0 && f.check:
		text = fmt.Sprintf("%s of machine identity left in %s; to remove them: %s", count(len(identities), "item"), c.root, c.sealCommand())
	case len(identities)+len(keys) > 0:
		text = fmt.Sprintf("%s in %s", count(len(identities)+len(keys), "change"), c.root)
	}
	_, err := fmt.Fprintln(c.out, text)
	return err
}

func (c *cli) sealCommand() string {
	if c.root == "/" {
		return "firstboot seal --this-machine"
	}
	return "firstboot seal --root " + c.root
}

// printSealed prints what seal changed.
func (c *cli) printSealed(h *host.Host, r sealResult, err error) error {
	if c.json() {
		if printErr := c.printJSON(r); printErr != nil {
			return printErr
		}
		if !r.Sealed {
			return exitWith(app.ExitFailed)
		}
		return nil
	}
	writeIdentities(c.out, r.Removed)
	for _, key := range r.Added {
		fmt.Fprintf(c.out, "%-6s %-17s %s: the image does not create SSH host keys at boot\n", key.Action, "ssh-host-keys", key.Path)
	}
	if !r.Sealed {
		if err == nil {
			writeIdentities(c.errs, r.Left)
			err = fmt.Errorf("%s of machine identity left in %s", count(len(r.Left), "item"), c.root)
		}
		return fmt.Errorf("not sealed: %w", err)
	}
	fmt.Fprintf(c.out, "sealed %s: %s of machine identity removed\n", c.root, count(len(r.Removed), "item"))
	if h.Live() {
		fmt.Fprintln(c.out, "power off now: running programs create machine identity again, and systemd saves a random seed at shutdown\ncheck the captured disk: firstboot seal --check --root DIR")
	}
	return nil
}
