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

// reportIdentities prints the result of seal --check and seal --plan. Identity that
// only a person can remove is not a change that seal would make.
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
	case err != nil:
		return err
	case f.check && len(identities) > 0:
		return exitWith(app.ExitFailed)
	case f.plan && countRemovable(identities)+len(keys) > 0:
		return exitWith(app.ExitPending)
	}
	return nil
}

// countRemovable returns how many of the identities seal can remove.
func countRemovable(identities []golden.Identity) int {
	n := 0
	for _, item := range identities {
		if item.IsRemovable() {
			n++
		}
	}
	return n
}

func (c *cli) printIdentities(f sealFlags, identities []golden.Identity, keys []golden.Change) error {
	writeIdentities(c.out, identities)
	for _, key := range keys {
		fmt.Fprintf(c.out, "%-6s %-17s %s: the image does not create SSH host keys at boot\n", key.Action, "ssh-host-keys", key.Path)
	}
	changes := countRemovable(identities) + len(keys)
	left := len(identities) - countRemovable(identities)
	text := "clean: no machine identity left in " + c.root
	switch {
	case f.check && changes == 0 && left > 0:
		text = fmt.Sprintf("%s of machine identity left in %s, which only a person can remove", count(left, "item"), c.root)
	case f.check && len(identities) > 0:
		text = fmt.Sprintf("%s of machine identity left in %s; to remove them: %s", count(len(identities), "item"), c.root, c.sealCommand())
	case left > 0:
		text = fmt.Sprintf("%s in %s; %s of machine identity left, which only a person can remove", count(changes, "change"), c.root, count(left, "item"))
	case changes > 0:
		text = fmt.Sprintf("%s in %s", count(changes, "change"), c.root)
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
