package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
)

func (c *cli) config() *cobra.Command {
	var schema bool
	cmd := &cobra.Command{
		Use:   "config [--schema]",
		Short: "Show the effective configuration and the source of each value",
		Long: `Prints every value with its source. Secrets are masked. On a host that has run,
these are the values that the first run saved. On any other host, they come from
the configuration files and the other sources.`,
		Example:     "  firstboot config\n  firstboot config --config my.yaml -o json\n  firstboot config --schema > firstboot.schema.json",
		Annotations: codes("0    printed", "2    usage error", "3    the configuration is invalid, or cannot be read"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if schema {
				return c.printSchema()
			}
			loaded, saved, edit, err := app.EffectiveConfiguration(cmd.Context(), c.options())
			if err != nil {
				return err
			}
			if edit != "" {
				fmt.Fprintf(c.errs, "firstboot: warning: %s; firstboot run --force applies the change\n", edit)
			}
			return c.printConfig(loaded, saved)
		},
	}
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema, for editors")
	return cmd
}

func (c *cli) printConfig(loaded *config.Loaded, saved bool) error {
	if c.json() {
		return c.printJSON(loaded)
	}
	for _, w := range loaded.Warnings {
		fmt.Fprintln(c.errs, "firstboot: warning:", w.Error())
	}
	from := "configuration from its current sources"
	if saved {
		from = "configuration saved by the first run"
	}
	_, err := fmt.Fprintf(c.out, "# %s\n%s", from, loaded.YAML())
	return err
}

func (c *cli) printSchema() error {
	data, err := config.Schema()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", data)
	return err
}
