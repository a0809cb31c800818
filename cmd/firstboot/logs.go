package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/projecteru2/firstboot/internal/app"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/stages"
)

func (c *cli) logs() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "logs [-o FILE.tar.gz]",
		Short: "Tell the run's story, or pack everything for a bug report",
		Long: `Prints what firstboot said at every boot. With -o FILE.tar.gz it packs that,
status, journal, configuration, and what Docker, Calico and systemd say into one
archive, mode 0600. Configured secrets are masked; look through it all the same
before you send it.`,
		Example:     "  firstboot logs\n  firstboot logs -o host-7.tar.gz",
		Annotations: codes("0    told, or packed", "1    it cannot be written", "2    usage"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			cmd.SetContext(ctx)
			return c.doLogs(cmd, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "print text or json, or pack everything into `FILE.tar.gz`")
	return cmd
}

func (c *cli) doLogs(cmd *cobra.Command, output string) error {
	switch {
	case !host.New(c.root).Live():
		return &app.UsageError{Err: hint(errors.New("logs asks the running machine, not a folder"), "journalctl --root %s --unit firstboot", c.root)}
	case output == "text":
		story, err := app.BootLog(cmd.Context(), c.options())
		if err == nil && story == "" {
			story = "firstboot: the journal holds nothing of firstboot.service\n"
		}
		if err == nil {
			_, err = fmt.Fprint(c.out, story)
		}
		return err
	case output != "json" && !strings.HasSuffix(output, ".tar.gz") && !strings.HasSuffix(output, ".tgz"):
		return &app.UsageError{Err: hint(fmt.Errorf("cannot pack into %s: the archive is a .tar.gz", output), "firstboot logs -o %s.tar.gz", output)}
	}
	files, err := app.CollectLogs(cmd.Context(), c.options(), diagnostics())
	if err != nil {
		return err
	}
	if output == "json" {
		c.output = "json"
		return c.print(byName(files))
	}
	data, err := pack(files, time.Now())
	if err != nil {
		return fmt.Errorf("cannot pack %s: %w", output, err)
	}
	if err := writePrivate(output, data); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "firstboot: %d files in %s (%d KiB); configured secrets are masked, look through it before you send it\n", len(files), output, (len(data)+1023)/1024)
	return err
}

func diagnostics() app.Diagnostics {
	e := app.Diagnostics{Files: stages.DiagnosticFiles()}
	for _, x := range stages.Diagnostics() {
		e.Commands = append(e.Commands, app.Diagnostic{Name: x.Name, Command: x.Command})
	}
	return e
}

func byName(files []app.LogFile) map[string]string {
	named := map[string]string{}
	for _, f := range files {
		named[f.Name] = f.Text
	}
	return named
}

// pack makes a .tar.gz with one folder in it.
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
