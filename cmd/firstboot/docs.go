//go:build docs

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docsCommands generate the man pages: go run -tags docs ./cmd/firstboot docs man DIR.
func (c *cli) docsCommands() []*cobra.Command {
	docs := &cobra.Command{Use: "docs", Hidden: true, Short: "Generate documentation"}
	docs.AddCommand(&cobra.Command{
		Use:   "man DIR",
		Short: "Write a man page for each command and for the configuration",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("cannot write man pages: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			addExitCodes(root)
			if err := writeCommandPages(root, args[0]); err != nil {
				return err
			}
			return writeConfigPage(args[0])
		},
	})
	return []*cobra.Command{docs}
}

// writeCommandPages writes the page of a command and those of its subcommands.
func writeCommandPages(c *cobra.Command, dir string) error {
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := writeCommandPages(sub, dir); err != nil {
			return err
		}
	}
	var page bytes.Buffer
	// The date is SOURCE_DATE_EPOCH if that is set.
	if err := doc.GenMan(c, &doc.GenManHeader{Title: "FIRSTBOOT", Section: "1", Source: "firstboot " + version()}, &page); err != nil {
		return fmt.Errorf("cannot write the man page of %s: %w", c.CommandPath(), err)
	}
	// cobra shows the default of a flag without a value: --help[=false].
	text := bytes.ReplaceAll(page.Bytes(), []byte("[=false]"), nil)
	text = bytes.ReplaceAll(text, []byte("[=]"), []byte("[="+forever+"]")) // status --wait has no default
	return writePage(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"), text)
}

func writePage(path string, text []byte) error {
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("cannot write a man page: %w", err)
	}
	return nil
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
