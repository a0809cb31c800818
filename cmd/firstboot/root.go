package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/report"
)

// app is what the commands share.
type cli struct {
	files  []string // --config
	output string   // -o
	root   string   // --root
	out    io.Writer
	errs   io.Writer
}

// execute runs one command line and returns its exit code.
func execute(args []string, out, errs io.Writer) int {
	c := &cli{out: out, errs: errs}
	root := c.command()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(context.Background())
	if wantsJSON(args) { // also where a wrong flag kept the rest from being read
		c.output = "json"
	}
	c.tell(err)
	return app.ExitCode(err)
}

// wantsJSON looks for -o json without understanding the rest.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		if slices.Contains([]string{"-ojson", "-o=json", "--output=json"}, arg) ||
			(arg == "-o" || arg == "--output") && i+1 < len(args) && args[i+1] == "json" {
			return true
		}
	}
	return false
}

// command is the command line, as a list.
func (c *cli) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "firstboot",
		Short: "Join this host to its Calico network, once",
		Long: `firstboot turns a bare host into a member of a Calico network for Docker at its
first boot: checked stage by stage, once, and going on after any interruption.`,
		Example:       "  firstboot validate my.yaml\n  firstboot run\n  firstboot status",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          known,
		// Letters that may be wrong in a command that is still recognised.
		SuggestionsMinimumDistance: 2,
		RunE: func(*cobra.Command, []string) error {
			return &app.UsageError{Err: hint(errors.New("no command was given"), "firstboot --help lists the commands")}
		},
	}
	flags := root.PersistentFlags()
	flags.StringArrayVar(&c.files, "config", nil, "read this configuration `FILE` instead of the search path (repeatable, later wins)")
	flags.StringVarP(&c.output, "output", "o", "text", "print `FORMAT`: text or json")
	flags.StringVar(&c.root, "root", "/", "work on the files of the image below `DIR`")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &app.UsageError{Err: hint(err, "%s -h lists the flags", cmd.CommandPath())}
	})
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return c.checkFlags() }
	root.AddCommand(
		c.run(),
		c.plan(),
		c.status(),
		c.verify(),
		c.leave(),
		c.logs(),
		c.validate(),
		c.config(),
		c.version(),
		c.render(),
		c.install(),
		c.bundle(),
		c.bake(),
		c.seal(),
		c.waitPlugin(),
		c.probeContainer(),
	)
	root.AddCommand(c.extra()...)
	root.SetUsageTemplate(usage)
	for _, sub := range append(root.Commands(), root) {
		sub.DisableFlagsInUseLine = true
		wrapArgs(sub)
	}
	return root
}

// usage is cobra's, shortened, and with the exit codes.
const usage = `Usage:{{if .Runnable}}{{if not .HasAvailableSubCommands}}
  {{.UseLine}}{{end}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Everywhere:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{with index .Annotations "codes"}}

Exit codes:
{{.}}{{end}}
`

// codes are the exit codes of a command, for its help.
func codes(lines ...string) map[string]string {
	return map[string]string{"codes": "  " + strings.Join(lines, "\n  ")}
}

// known refuses what is no command, and says which may have been meant.
func known(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", args[0])
	near := cmd.SuggestionsFor(args[0])
	for _, name := range near {
		if strings.HasPrefix(name, args[0]) { // its beginning tells more than letters that fit
			return hint(err, "did you mean firstboot %s?", name)
		}
	}
	if len(near) > 0 {
		return hint(err, "did you mean %s %s?", cmd.CommandPath(), near[0])
	}
	return hint(err, "%s --help lists the commands", cmd.CommandPath())
}

// noArgs refuses arguments; one that looks like a duration is meant for --wait.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%s takes no argument %q", cmd.CommandPath(), args[0])
	if _, isTime := time.ParseDuration(args[0]); isTime == nil && cmd.Flags().Lookup("wait") != nil {
		return hint(err, "%s --wait=%s", cmd.CommandPath(), args[0])
	}
	return hint(err, "%s -h", cmd.CommandPath())
}

// wrapArgs makes what is wrong with the arguments a usage error.
func wrapArgs(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = noArgs
	}
	c.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &app.UsageError{Err: err}
		}
		return nil
	}
}

func (c *cli) checkFlags() error {
	if c.output != "text" && c.output != "json" {
		format := c.output
		c.output = "text"
		return &app.UsageError{Err: hint(fmt.Errorf("unknown format %q", format), "use -o text or -o json")}
	}
	root, err := filepath.Abs(c.root)
	if err != nil {
		return &app.UsageError{Err: err}
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return &app.UsageError{Err: fmt.Errorf("cannot work on --root %s: no such folder", c.root)}
	}
	c.root = root
	return nil
}

func (c *cli) json() bool { return c.output == "json" }

// options are those of every command about a machine.
func (c *cli) options() app.Options {
	return app.Options{
		Root: c.root, Files: c.files, Version: version(), Build: build,
		CredentialsDir: os.Getenv("CREDENTIALS_DIRECTORY"),
	}
}

func (c *cli) terminal() report.Terminal { return report.TerminalOf(c.out, os.Getenv) }
