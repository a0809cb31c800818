package main

import (
	"crypto/sha256"
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
)

func (c *cli) render() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Render the configuration for cloud-init, Ignition or PXE",
		Long: `Renders the same configuration as user-data for cloud-init, as an Ignition config,
or as the files of a PXE boot server.`,
		Example: "  firstboot render cloud-init --config my.yaml\n  firstboot render ignition --config my.yaml\n  firstboot render pxe --config my.yaml --dir /srv/http --url http://10.0.0.5:8080",
		Args:    refuseUnknownCommand,

		SuggestionsMinimumDistance: 2,
		RunE: func(*cobra.Command, []string) error {
			return &app.UsageError{Err: hint(errors.New("no provisioning method was given"), "firstboot render -h lists the methods")}
		},
	}
	cmd.AddCommand(c.renderCloudInit(), c.renderIgnition(), c.renderPXE())
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
	return cmd
}

// renderCodes annotates a render command with its exit codes and with the flag
// that takes what -o once took, or "".
func renderCodes(output string) map[string]string {
	all := codes("0    rendered", "1    cannot render or write the result", "2    usage error", "3    the configuration is invalid, or cannot be read")
	all[outputFlag] = output
	return all
}

// remoteFlags adds the flags for the source from which a host installs firstboot.
func remoteFlags(cmd *cobra.Command, what string) *images.Remote {
	var r images.Remote
	flags := cmd.Flags()
	flags.StringVar((*string)(&r.URL), "install", "", "for an image without firstboot: install "+what+" from `URL`")
	flags.StringVar(&r.SHA256, "sha256", "", "the sha256 `DIGEST` of that file, 64 hexadecimal digits")
	return &r
}

// remoteSource checks r. It returns nil if --install was not given.
func remoteSource(r *images.Remote) (*images.Remote, error) {
	if r.URL == "" && r.SHA256 == "" {
		return nil, nil
	}
	if r.URL == "" {
		return nil, &app.UsageError{Err: hint(errors.New("--sha256 needs --install"), "add --install URL")}
	}
	if err := r.Check("--install", "--sha256"); err != nil {
		return nil, &app.UsageError{Err: err}
	}
	return r, nil
}

// loadForRender loads the configuration from the files only, without the kernel
// command line and the cloud-init of this machine.
func (c *cli) loadForRender(cmd *cobra.Command) (*config.Loaded, error) {
	loaded, err := config.Load(cmd.Context(), config.Options{Root: c.root, Files: c.files, NoCmdline: true})
	if err != nil {
		if _, invalid := config.IsInvalid(err); invalid {
			return nil, err
		}
		return nil, &app.ConfigError{Err: err}
	}
	c.warn(c.validationWarnings(loaded, c.files))
	return loaded, nil
}

// warnOfCertificates names the files for an etcd with TLS that hosts need, except those
// that the output contains. No output carries them by itself: every process of a host
// may read its user-data, and a boot server gives its files to everyone.
func (c *cli) warnOfCertificates(etcd config.Etcd, contained ...string) {
	var needed []string
	for _, f := range []struct{ key, path string }{{"etcd.caFile", etcd.CAFile}, {"etcd.certFile", etcd.CertFile}, {"etcd.keyFile", etcd.KeyFile}} {
		if f.path != "" && !slices.Contains(contained, f.path) {
			needed = append(needed, f.key+" "+f.path)
		}
	}
	if len(needed) > 0 {
		c.warn([]string{"the output does not contain " + strings.Join(needed, ", ") + ": put them into the image, or bring them to each host another way"})
	}
}

// atMostOneFile accepts at most one argument: the file to write.
func atMostOneFile(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return hint(fmt.Errorf("%s writes one file, not %d", cmd.CommandPath(), len(args)), "%s -h shows its usage", cmd.CommandPath())
	}
	return nil
}

// renderedFile is what render prints as JSON after it has written a file.
type renderedFile struct {
	File   string `json:"file"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// writeRendered writes data to the file in args with mode 0600, or to stdout if
// args are empty. It refuses to write secret data to a terminal. With -o json it
// describes the file on stdout.
func (c *cli) writeRendered(cmd *cobra.Command, args []string, data []byte, secret bool) error {
	if len(args) == 1 && args[0] != "-" {
		toStream := isStream(args[0])
		if err := writePrivate(args[0], data); err != nil || toStream || !c.json() || !cmd.Flags().Changed("output") {
			return err
		}
		return c.printJSON(renderedFile{args[0], len(data), fmt.Sprintf("%x", sha256.Sum256(data))})
	}
	onTerminal := c.terminal().Width != nil
	if secret && onTerminal {
		return &app.UsageError{Err: hint(errors.New("cannot write to a terminal: the output holds secrets or is not text"), "%s … FILE", cmd.CommandPath())}
	}
	_, err := c.out.Write(data)
	return err
}

// writePrivate replaces a file atomically, with mode 0600. If name exists and is
// not a regular file (a pipe, /dev/stdout), it writes to it.
func writePrivate(name string, data []byte) error {
	path, err := filepath.Abs(name)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	if isStream(path) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("cannot write %s: %w", name, err)
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	}
	return host.New("/").WriteFile(path, data, 0o600)
}

// isStream reports whether a file exists and is not a regular file.
func isStream(name string) bool {
	info, err := os.Stat(name)
	return err == nil && !info.Mode().IsRegular()
}

// readInput reads the file that a flag names; - is stdin.
func readInput(flag, name string) ([]byte, error) {
	input := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", flag, err)
		}
		defer f.Close()
		input = f
	}
	data, err := io.ReadAll(io.LimitReader(input, images.MaxInput+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", flag, err)
	}
	if len(data) > images.MaxInput {
		return nil, fmt.Errorf("cannot read %s: %s is larger than %d bytes", flag, name, images.MaxInput)
	}
	return data, nil
}
