package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
)

func (c *cli) validate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate [FILE]...",
		Short: "Say everything that is wrong with a configuration",
		Long: `Reads the files, later ones over earlier ones, or without any the search path of
this machine, and prints every mistake as FILE:LINE:COL: message.`,
		Example:     "  firstboot validate my.yaml\n  firstboot validate --root /mnt/image\n  firstboot validate -o json",
		Annotations: codes("0    valid", "2    usage", "3    invalid, or cannot be read"),
		Args:        cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, files []string) error {
			o := c.options()
			o.Files = append(o.Files, files...)
			warnings, err := app.Validate(cmd.Context(), o)
			if c.json() {
				return c.validity(err, warnings)
			}
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintln(c.errs, "warning: "+w)
			}
			of := strings.Join(o.Files, ", ")
			if of == "" {
				of = "the configuration of this machine"
			}
			_, err = fmt.Fprintln(c.out, "valid: "+of)
			return err
		},
	}
}

// validity is the JSON of validate.
func (c *cli) validity(err error, warnings []string) error {
	problems := problemsOf(err)
	if err != nil && len(problems) == 0 {
		return err
	}
	if warnings == nil {
		warnings = []string{}
	}
	shown := c.print(map[string]any{"valid": err == nil, "problems": problems, "warnings": warnings})
	if shown != nil {
		return shown
	}
	return end(app.ExitCode(err))
}
