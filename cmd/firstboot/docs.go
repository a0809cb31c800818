//go:build docs

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docsCommands generate the man pages: go run -tags docs ./cmd/firstboot docs man DIR.
func (c *cli) docsCommands() []*cobra.Command {
	docs := &cobra.Command{Use: "docs", Hidden: true, Short: "Generate documentation"}
	docs.AddCommand(&cobra.Command{
		Use:   "man DIR",
		Short: "Write a man page for each command",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("cannot write man pages: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			addExitCodes(root)
			// The date is SOURCE_DATE_EPOCH if that is set.
			return doc.GenManTree(root, &doc.GenManHeader{Title: "FIRSTBOOT", Section: "1", Source: "firstboot " + version()}, args[0])
		},
	})
	return []*cobra.Command{docs}
}

// addExitCodes adds the exit codes, which cobra's pages do not have, to the
// description of each command. The indentation makes them a code block.
func addExitCodes(c *cobra.Command) {
	if codes := c.Annotations["codes"]; codes != "" {
		text := c.Long
		if text == "" {
			text = c.Short
		}
		c.Long = text + "\n\n# EXIT CODES\n\n    " + strings.ReplaceAll(codes, "\n", "\n    ")
	}
	for _, sub := range c.Commands() {
		addExitCodes(sub)
	}
}
