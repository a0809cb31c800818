package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
)

func (c *cli) render() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print what hands this configuration to a way in",
		Long: `Turns one configuration into what cloud-init, Ignition or a network boot hands to
a new host.`,
		Example: "  firstboot render cloud-init --config my.yaml\n  firstboot render ignition --config my.yaml\n  firstboot render pxe --config my.yaml --dir /srv/http --url http://10.0.0.5:8080",
		Args:    known,

		SuggestionsMinimumDistance: 2,
		RunE: func(*cobra.Command, []string) error {
			return &app.UsageError{Err: hint(errors.New("render needs to know for what"), "firstboot render -h lists the ways in")}
		},
	}
	cmd.AddCommand(c.renderCloudInit(), c.renderIgnition(), c.renderPXE())
	for _, sub := range cmd.Commands() {
		sub.DisableFlagsInUseLine = true
		wrapArgs(sub)
	}
	return cmd
}

// renderCodes are the exit codes of every way in.
func renderCodes() map[string]string {
	return codes("0    rendered", "1    what was asked for cannot be made or written", "2    usage", "3    the configuration is invalid, or cannot be read")
}

// remoteFlags name where a host gets firstboot itself from.
func remoteFlags(cmd *cobra.Command, what string) *images.Remote {
	var r images.Remote
	flags := cmd.Flags()
	flags.StringVar((*string)(&r.URL), "install", "", "the image has no firstboot: install "+what+" from `URL`")
	flags.StringVar(&r.SHA256, "sha256", "", "what that file's sha256 must be, as 64 hexadecimal `DIGITS`")
	return &r
}

// given is r where --install was given, else nil.
func given(r *images.Remote) (*images.Remote, error) {
	if r.URL == "" && r.SHA256 == "" {
		return nil, nil
	}
	if r.URL == "" {
		return nil, &app.UsageError{Err: hint(errors.New("--sha256 says of no file what it must be"), "add --install URL")}
	}
	if err := r.Check("--install", "--sha256"); err != nil {
		return nil, &app.UsageError{Err: err}
	}
	return r, nil
}

// toRender loads the configuration to hand over: that of the files, never
// what this machine's kernel or cloud-init adds.
func (c *cli) toRender(cmd *cobra.Command) (*config.Loaded, error) {
	loaded, err := config.Load(cmd.Context(), config.Options{Root: c.root, Files: c.files, NoCmdline: true})
	if err != nil {
		if _, invalid := config.IsInvalid(err); invalid {
			return nil, err
		}
		return nil, &app.ConfigError{Err: err}
	}
	for _, w := range loaded.Warnings {
		fmt.Fprintln(c.errs, "firstboot: warning:", w.Error())
	}
	return loaded, nil
}

// formats makes -o of one command take other formats than everywhere.
func (c *cli) formats(cmd *cobra.Command, help string) *string {
	return cmd.Flags().StringP("output", "o", "text", help)
}

// choose reads such a -o.
func (c *cli) choose(format string, known ...string) error {
	if !slices.Contains(known, format) {
		return &app.UsageError{Err: hint(fmt.Errorf("unknown format %q", format), "use -o %s", strings.Join(known, " or -o "))}
	}
	if format == "json" {
		c.output = "json"
	}
	return nil
}

// one takes at most one argument: the file to write.
func one(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return hint(fmt.Errorf("%s writes one file, not %d", cmd.CommandPath(), len(args)), "%s -h", cmd.CommandPath())
	}
	return nil
}

// hand writes what was rendered to the file in args, for root or its owner
// alone, or without one to stdout. secret keeps it from a terminal.
func (c *cli) hand(cmd *cobra.Command, args []string, data []byte, secret bool) error {
	if len(args) == 1 && args[0] != "-" {
		return writePrivate(args[0], data)
	}
	onTerminal := report.TerminalOf(c.out, os.Getenv).Width != nil
	if secret && onTerminal {
		return &app.UsageError{Err: hint(errors.New("what was rendered is not for a terminal: it holds secrets, or is no text"), "%s … FILE", cmd.CommandPath())}
	}
	_, err := c.out.Write(data)
	return err
}

// writePrivate replaces a file whole, mode 0600; what is there and no file (a
// pipe, /dev/stdout) is written to.
func writePrivate(name string, data []byte) error {
	path, err := filepath.Abs(name)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("cannot write: %w", err)
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	}
	return host.New("/").WriteFile(path, data, 0o600)
}

// readInput reads a file that a flag names, - for stdin.
func readInput(flag, name string) ([]byte, error) {
	from := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", flag, err)
		}
		defer f.Close()
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, images.MaxInput+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", flag, err)
	}
	if len(data) > images.MaxInput {
		return nil, fmt.Errorf("cannot read %s: %s has more than %d bytes", flag, name, images.MaxInput)
	}
	return data, nil
}
