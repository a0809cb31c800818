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
		Short: "Check a configuration and report every error",
		Long: `Checks the configuration files and prints every error as FILE:LINE:COL: message.
Later files override earlier ones. Without FILE it checks the configuration in the
search path of this machine.`,
		Example:           "  firstboot validate my.yaml\n  firstboot validate --root /mnt/image\n  firstboot validate -o json",
		Annotations:       codes("0    valid", "2    usage error", "3    invalid, or cannot be read"),
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt),
		RunE: func(cmd *cobra.Command, files []string) error {
			o := c.options()
			o.Files = append(o.Files, files...)
			warnings, err := app.Validate(cmd.Context(), o)
			if c.json() {
				return c.printValidity(err, warnings)
			}
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintln(c.errs, "warning: "+w)
			}
			checked := strings.Join(o.Files, ", ")
			if checked == "" {
				checked = "the configuration of this machine"
			}
			_, err = fmt.Fprintln(c.out, "valid: "+checked)
			return err
		},
	}
}

// printValidity prints the result as JSON.
func (c *cli) printValidity(err error, warnings []string) error {
	problems := problemsOf(err)
	if err != nil && len(problems) == 0 {
		return err
	}
	if warnings == nil {
		warnings = []string{}
	}
	printErr := c.printJSON(map[string]any{"valid": err == nil, "problems": problems, "warnings": warnings})
	if printErr != nil {
		return printErr
	}
	return exitWith(app.ExitCode(err))
}
