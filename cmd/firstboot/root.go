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
	"github.com/projecteru2/firstboot/internal/secret"
)

// cli holds the global flags and the outputs of one command line.
type cli struct {
	files   []string // --config
	output  string   // -o
	root    string   // --root
	stdout  io.Writer
	out     io.Writer // stdout, with a record of errors
	errs    io.Writer
	helpErr error // why -h could not print a help text
}

// execute runs one command line and returns its exit code.
func execute(args []string, out, errs io.Writer) int {
	recorded := &output{to: out}
	c := &cli{stdout: out, out: recorded, errs: errs}
	root := c.command()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		err = c.helpErr
	}
	if wantsJSON(args) { // the flags may not have been parsed
		c.output = "json"
	}
	c.printError(err)
	return c.finishOutput(cmd, recorded, err)
}

// wantsJSON reports whether args contain -o json, without parsing the rest.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		if slices.Contains([]string{"-ojson", "-o=json", "--output=json"}, arg) ||
			(arg == "-o" || arg == "--output") && i+1 < len(args) && args[i+1] == "json" {
			return true
		}
	}
	return false
}

// command is the whole command line.
func (c *cli) command() *cobra.Command {
	var showVersion bool
	root := &cobra.Command{
		Use:   "firstboot",
		Short: "Make a bare host a member of a Calico network for Docker",
		Long: `firstboot makes a bare host a member of a Calico network for Docker at its first
boot. It works in stages, checks the result of each stage on the live machine,
and continues after any interruption.`,
		Example: "  firstboot validate my.yaml\n  firstboot run\n  firstboot status",
		Annotations: codes("0    success", "1    a stage or another operation failed, or the output cannot be written", "2    usage error", "3    the configuration is invalid",
			"4    refused; nothing was changed", "5    another run holds the lock", "6    changes are pending (plan)",
			"7    status: a run is in progress", "8    status: not started", "9    drifted (status, verify)",
			"10   status: the marker belongs to another machine", "11   the state cannot be determined", "12   status: this host left the network", "124  status --wait timed out", "130  interrupted"),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          refuseUnknownCommand,
		// The number of wrong letters in a command that is still suggested.
		SuggestionsMinimumDistance: 2,
		RunE: func(*cobra.Command, []string) error {
			if showVersion {
				return c.printVersion()
			}
			return &app.UsageError{Err: hint(errors.New("no command was given"), "firstboot -h lists the commands")}
		},
	}
	root.SetOut(c.out) // before addHelp: the completion command keeps it
	root.SetErr(c.errs)
	root.Flags().BoolVar(&showVersion, "version", false, "print the version")
	c.addGlobalFlags(root)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return c.checkGlobalFlags(cmd) }
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
		c.report(),
		c.adapter(),
		c.probeContainer(),
		c.etcdTunnel(),
	)
	root.AddCommand(c.docsCommands()...)
	root.SetUsageFunc(printUsage)
	c.addHelp(root)
	for _, sub := range append(root.Commands(), root) {
		checkArgs(sub)
	}
	completeFlags(root)
	return root
}

func (c *cli) addGlobalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringArrayVar(&c.files, "config", nil, "read the configuration from `FILE` instead of the search path (repeatable, later wins)")
	flags.StringVarP(&c.output, "output", "o", "text", "output `FORMAT`: text or json")
	flags.StringVar(&c.root, "root", "/", "use `DIR` as the root directory, such as an unpacked image")
	flags.BoolP("help", "h", false, "print this help")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &app.UsageError{Err: hint(err, "%s -h lists the flags", cmd.CommandPath())}
	})
}

// outputFlag is the annotation of a command whose -o once took other values:
// the flag that takes them now.
const outputFlag = "output-flag"

func (c *cli) checkGlobalFlags(cmd *cobra.Command) error {
	if c.output != "text" && c.output != "json" {
		format := c.output
		c.output = "text"
		text := "use -o text or -o json"
		if flag := cmd.Annotations[outputFlag]; flag != "" {
			text = fmt.Sprintf("%s %s %s", cmd.CommandPath(), flag, format)
		}
		return &app.UsageError{Err: hint(fmt.Errorf("unknown output format %q", format), "%s", text)}
	}
	root, err := rootDirectory(c.root)
	if err != nil {
		return &app.UsageError{Err: err}
	}
	c.root = root
	return nil
}

// rootDirectory returns the absolute path of the argument of --root. A
// directory that is this machine's / under another name is "/", so that no
// command takes the running machine for an image.
func rootDirectory(name string) (string, error) {
	if name == "" { // an unset variable of a script; filepath.Abs would return the working directory
		return "", errors.New("cannot use --root: the name of the directory is empty")
	}
	root, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(root)
	if err != nil || !info.IsDir() {
		return "", fmt.Errorf("cannot use --root %s: no such directory", name)
	}
	if machine, err := os.Stat("/"); err == nil && os.SameFile(info, machine) {
		return "/", nil
	}
	return root, nil
}

// refuseUnknownCommand refuses arguments of a command that only has
// subcommands, and suggests a subcommand.
func refuseUnknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", shown(args[0]))
	suggestions := cmd.SuggestionsFor(args[0])
	for _, name := range suggestions {
		if strings.HasPrefix(name, args[0]) { // a prefix is a better match than similar letters
			return hint(err, "did you mean %s %s?", cmd.CommandPath(), name)
		}
	}
	if len(suggestions) > 0 {
		return hint(err, "did you mean %s %s?", cmd.CommandPath(), suggestions[0])
	}
	return hint(err, "%s -h lists the commands", cmd.CommandPath())
}

// shown returns an argument for an error message. A URL may contain credentials.
func shown(argument string) string {
	if strings.Contains(argument, "://") {
		return secret.URL(argument).String()
	}
	return argument
}

// refuseArgs refuses all arguments. One that looks like a duration was meant
// for --wait.
func refuseArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%s takes no argument %q", cmd.CommandPath(), shown(args[0]))
	if _, notDuration := time.ParseDuration(args[0]); notDuration == nil && cmd.Flags().Lookup("wait") != nil {
		return hint(err, "%s --wait=%s", cmd.CommandPath(), args[0])
	}
	return hint(err, "%s -h shows its usage", cmd.CommandPath())
}

// checkArgs turns argument errors of the command into usage errors. A command
// that does not check its arguments takes none.
func checkArgs(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	check := cmd.Args
	if check == nil {
		check = refuseArgs
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &app.UsageError{Err: err}
		}
		return nil
	}
}

func (c *cli) json() bool { return c.output == "json" }

// options are the options of every command that works on a machine.
func (c *cli) options() app.Options {
	return app.Options{
		Root: c.root, Files: c.files, Version: version(), Build: build,
		CredentialsDir: os.Getenv("CREDENTIALS_DIRECTORY"),
	}
}

func (c *cli) terminal() report.Terminal { return report.TerminalOf(c.stdout, os.Getenv) }
