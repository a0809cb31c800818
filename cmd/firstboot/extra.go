//go:build !docs

package main

import "github.com/spf13/cobra"

// extra is empty in the product: the generator of man pages, which would make
// the binary larger, comes in with the build tag docs.
func (c *cli) extra() []*cobra.Command { return nil }
