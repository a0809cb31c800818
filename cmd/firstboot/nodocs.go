//go:build !docs

package main

import "github.com/spf13/cobra"

// docsCommands returns nothing in the product. The generator of man pages would
// make the binary larger, so only the build tag docs includes it.
func (c *cli) docsCommands() []*cobra.Command { return nil }
