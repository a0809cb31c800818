package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images/golden"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/stages"
)

func (c *cli) validate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate [FILE]...",
		Short: "Check a configuration and report every error",
		Long: `Checks the configuration files and prints every error as FILE:LINE:COL: message.
Later files override earlier ones. Without FILE it checks the configuration in the
search path of this machine. A warning names each artifact that hosts have no
source for.`,
		Example:           "  firstboot validate my.yaml\n  firstboot validate --root /mnt/image\n  firstboot validate -o json",
		Annotations:       codes("0    valid", "2    usage error", "3    invalid, or cannot be read"),
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt),
		RunE: func(cmd *cobra.Command, files []string) error {
			o := c.options()
			o.Files = append(o.Files, files...)
			loaded, err := app.Validate(cmd.Context(), o)
			warnings := []string{}
			if err == nil {
				warnings = c.validationWarnings(loaded, o.Files)
			}
			if c.json() {
				return c.printValidity(err, warnings)
			}
			if err != nil {
				return err
			}
			c.warn(warnings)
			checked := strings.Join(o.Files, ", ")
			if checked == "" {
				checked = "the configuration of this machine"
			}
			_, err = fmt.Fprintln(c.out, "valid: "+checked)
			return err
		},
	}
}

// validationWarnings returns the warnings of a valid configuration, and those of
// artifacts without a source.
func (c *cli) validationWarnings(loaded *config.Loaded, files []string) []string {
	warnings := []string{}
	for _, w := range loaded.Warnings {
		warnings = append(warnings, w.Error())
	}
	return append(warnings, c.sourceWarnings(loaded.Config, files)...)
}

// sourceWarnings warns of artifacts that hosts have no source for. Named files are
// for other hosts than this machine.
func (c *cli) sourceWarnings(conf *config.Config, files []string) []string {
	h := host.New(c.root, host.Offline())
	bundles := golden.OpenBundles(h, stages.BundleDirs())
	return golden.SourceWarnings(configuredArtifacts(conf), func(a golden.Artifact) bool {
		return (len(files) == 0 || !h.Live()) && golden.HasArtifact(h, a, bundles)
	})
}

// configuredArtifacts returns the artifacts that a configuration names.
func configuredArtifacts(conf *config.Config) []golden.Artifact {
	return golden.Artifacts(conf, (&stages.Env{Config: conf}).References())
}

// printValidity prints the result as JSON.
func (c *cli) printValidity(err error, warnings []string) error {
	problems := problemsOf(err)
	if err != nil && len(problems) == 0 {
		return err
	}
	printErr := c.printJSON(map[string]any{"valid": err == nil, "problems": problems, "warnings": warnings})
	if printErr != nil {
		return printErr
	}
	return exitWith(app.ExitCode(err))
}
