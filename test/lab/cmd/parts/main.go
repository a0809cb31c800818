// Command parts builds the parts of the lab's machines, unless they are in the
// cache, and prints their paths.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/projecteru2/firstboot/test/lab/cache"
	"github.com/projecteru2/firstboot/test/lab/parts"
)

const usage = `Builds the parts that the lab's machines need in addition to Debian, unless they
are in the cache (%s, default %s), and prints their sizes, sha256
and paths.

Usage: go run ./test/lab/cmd/parts [flags]

Example, with the real eru-minions instead of the stand-in:
  go run ./test/lab/cmd/parts -minions-rpm /tmp/eru-minions-21.10.28-1.el7.x86_64.rpm

Exit codes: 0 success, 1 a part cannot be built or used, 2 usage.

Flags:
`

func main() {
	var o parts.Options
	flag.StringVar(&o.Calicoctl, "calicoctl", "", "use this calicoctl instead of building one")
	flag.StringVar(&o.NodeImage, "node-image", "", "use this image archive (docker save) instead of building one")
	flag.StringVar(&o.MinionsRPM, "minions-rpm", "", "use this eru-minions RPM instead of the stand-in's")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), usage, cache.Variable, cache.DefaultDir)
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "unexpected argument %q (see -h)\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o.Log = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	if err := show(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func show(ctx context.Context, o parts.Options, w io.Writer) error {
	p, err := parts.Build(ctx, o)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, part := range []struct{ name, path string }{
		{"calicoctl " + p.CalicoctlVersion, p.Calicoctl},
		{"image " + p.NodeImageName, p.NodeImage},
		{"eru-minions", p.MinionsRPM},
	} {
		digest, size, err := fileDigest(part.path)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%.1f MB\tsha256 %s\t%s\n", part.name, float64(size)/1e6, digest, part.path)
	}
	return table.Flush()
}

func fileDigest(path string) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, err
}
