package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/report"
	"github.com/projecteru2/firstboot/stages"
)

func (c *cli) logs() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "logs [--file FILE.tar.gz]",
		Short: "Show the logs of all boots, or collect a bug report",
		Long: `Prints the log lines of firstboot from every boot. With --file it writes an
archive for a bug report, mode 0600: these lines, the status, the journal, the
configuration and the output of Docker, Calico and systemd. Configured secrets are
masked. Check the archive all the same before you send it.`,
		Example:     "  firstboot logs\n  firstboot logs --file host-7.tar.gz",
		Annotations: logsCodes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := app.NotifyContext(cmd.Context())
			defer stop()
			cmd.SetContext(ctx)
			return c.doLogs(cmd, file)
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "write everything for a bug report to `FILE.tar.gz`")
	return cmd
}

func logsCodes() map[string]string {
	all := codes("0    printed or written", "1    the logs cannot be read or written", "2    usage error")
	all[outputFlag] = "--file"
	return all
}

func (c *cli) doLogs(cmd *cobra.Command, file string) error {
	switch {
	case !host.New(c.root).Live():
		return &app.UsageError{Err: hint(errors.New("logs reads the running machine, not a directory"), "journalctl --root %s --unit firstboot", c.root)}
	case file != "" && !strings.HasSuffix(file, ".tar.gz") && !strings.HasSuffix(file, ".tgz"):
		return &app.UsageError{Err: hint(fmt.Errorf("cannot write %s: the archive is a .tar.gz", file), "firstboot logs --file %s.tar.gz", file)}
	case file == "" && !c.json():
		return c.printBootLog(cmd)
	}
	files, err := app.CollectLogs(cmd.Context(), c.options(), diagnostics())
	if err != nil {
		return err
	}
	if file == "" {
		return c.printJSON(textByName(files))
	}
	return c.writeArchive(file, files)
}

func (c *cli) printBootLog(cmd *cobra.Command) error {
	text, err := app.BootLog(cmd.Context(), c.options())
	if err != nil {
		return err
	}
	if text == "" {
		text = "firstboot: the systemd journal has no entries of firstboot.service\n"
	}
	_, err = fmt.Fprint(c.out, text)
	return err
}

func (c *cli) writeArchive(name string, files []app.LogFile) error {
	data, err := pack(files, time.Now())
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	if err := writePrivate(name, data); err != nil {
		return err
	}
	if c.json() {
		return c.printJSON(map[string]any{"file": name, "files": len(files), "bytes": len(data)})
	}
	_, err = fmt.Fprintf(c.out, "firstboot: %d files in %s (%s); configured secrets are masked, but check the archive before you send it\n",
		len(files), name, report.Bytes(int64(len(data))))
	return err
}

func diagnostics() app.Diagnostics {
	d := app.Diagnostics{Files: stages.DiagnosticFiles()}
	for _, x := range stages.Diagnostics() {
		d.Commands = append(d.Commands, app.Diagnostic{Name: x.Name, Command: x.Command})
	}
	return d
}

func textByName(files []app.LogFile) map[string]string {
	named := map[string]string{}
	for _, f := range files {
		named[f.Name] = f.Text
	}
	return named
}

// pack returns a .tar.gz archive with one directory.
func pack(files []app.LogFile, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	for _, f := range files {
		err := archive.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: "firstboot-logs/" + f.Name, Mode: 0o600, Size: int64(len(f.Text)), ModTime: now,
		})
		if err != nil {
			return nil, err
		}
		if _, err := archive.Write([]byte(f.Text)); err != nil {
			return nil, err
		}
	}
	err := errors.Join(archive.Close(), zipped.Close())
	return b.Bytes(), err
}
