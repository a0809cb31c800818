//go:build docs

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// extra generates the man pages: go run -tags docs ./cmd/firstboot docs man DIR.
func (a *app) extra() []*cobra.Command {
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
			// One date for all, so that the same source gives the same pages.
			date := time.Unix(0, 0).UTC()
			return doc.GenManTree(root, &doc.GenManHeader{Title: "FIRSTBOOT", Section: "1", Source: "firstboot " + version(), Date: &date}, args[0])
		},
	})
	return []*cobra.Command{docs}
}
