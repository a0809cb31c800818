package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/stages"
)

// printUsage prints the usage of a command: cobra's text, shortened, with the exit
// codes added. It is not a template: text/template finds methods by their names,
// so that the linker has to keep all methods of all types (3 MB).
func printUsage(cmd *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:")
	if cmd.Runnable() && !cmd.HasAvailableSubCommands() {
		b.WriteString("\n  " + cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\n  " + cmd.CommandPath() + " COMMAND\n\nCommands:")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, "\n  %-*s %s", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	section := func(title, text string) {
		if text != "" {
			b.WriteString("\n\n" + title + ":\n" + text)
		}
	}
	section("Examples", cmd.Example)
	if cmd.HasAvailableLocalFlags() {
		section("Flags", strings.TrimRight(cmd.LocalFlags().FlagUsages(), "\n"))
	}
	if cmd.HasAvailableInheritedFlags() {
		section("Global flags", strings.TrimRight(cmd.InheritedFlags().FlagUsages(), "\n"))
	}
	section("Exit codes", cmd.Annotations["codes"])
	_, err := fmt.Fprintln(cmd.OutOrStderr(), b.String())
	return err
}

// codes lists the exit codes of a command for its help.
func codes(lines ...string) map[string]string {
	return map[string]string{"codes": "  " + strings.Join(lines, "\n  ")}
}

// addHelp makes an unknown command a usage error in -h and help, too.
func (c *cli) addHelp(root *cobra.Command) {
	printHelp := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if rest := cmd.Flags().Args(); cmd.HasAvailableSubCommands() && len(rest) > 0 {
			c.helpErr = &app.UsageError{Err: refuseUnknownCommand(cmd, rest)}
			return
		}
		printHelp(cmd, args)
	})
	root.SetHelpCommand(&cobra.Command{
		Use:    "help [COMMAND]",
		Short:  "Print the help of a command",
		Hidden: true,
		Args:   cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = refuseUnknownCommand(cmd, rest)
			}
			if err != nil {
				return &app.UsageError{Err: err}
			}
			return cmd.Help()
		},
	})
	addCompletion(root)
}

// addCompletion adds cobra's completion command with our short texts.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	completion, _, err := root.Find([]string{"completion"})
	if err != nil {
		return
	}
	completion.Short = "Print a completion script for a shell"
	completion.Long = "Prints a script that makes a shell complete firstboot's commands, flags and values."
	completion.Example = "  firstboot completion bash > /etc/bash_completion.d/firstboot"
	for _, shell := range completion.Commands() {
		shell.Short = "Print the completion script for " + shell.Name()
		checkArgs(shell)
	}
}

// completeFlags sets what the shell completes after each flag of cmd and its
// subcommands. After a flag that is not listed it completes file names.
func completeFlags(cmd *cobra.Command) {
	values := func(list ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
	}
	directories := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	functions := map[string]cobra.CompletionFunc{
		"output": values("text", "json"),
		"format": values(formats...),
		"stage":  values(engine.Names(stages.All(&stages.Env{}))...),
		"config": cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt),
		"root":   directories, "dir": directories, "bundle": directories,
	}
	for _, name := range []string{"wait", "for", "sha256", "url", "install", "image", "instance-id", "hostname", "arg", "matchbox"} {
		functions[name] = cobra.NoFileCompletions
	}
	for name, complete := range functions {
		if cmd.LocalFlags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, complete) // fails only for unknown flags
		}
	}
	for _, sub := range cmd.Commands() {
		completeFlags(sub)
	}
}
