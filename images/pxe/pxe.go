// Package pxe renders the folder from which hosts boot over the network: iPXE
// scripts, the configuration they fetch, verified by its sum on the kernel's
// command line, and the same again in matchbox's layout.
package pxe

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/images/ignition"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
)

// Options say what is booted, and from where.
type Options struct {
	URL    config.URL // the address at which the folder is served
	Kernel string     // its name below URL, or an address of its own
	Initrd []string   // likewise, in order
	Args   []string   // kernel arguments of every host
	Hosts  []Host     // those with values of their own
	// Ignition adds the arguments by which a host's Ignition finds its config
	// at this matchbox; empty: none.
	Ignition config.URL
	// SignedBy is the path of a public key on the host: the configuration has
	// one name for good and is verified by the signature beside it, in the
	// place of its sum. Who renders has to sign it. Empty: by its sum.
	SignedBy string
	// Install has the host's disk written, instead of the host run from
	// memory; nil: no.
	Install *Install
}

// Install is a disk image for hosts that boot a live root.
type Install struct {
	Image images.Remote
	Disk  string // device, such as /dev/vda
	Wipe  bool   // also if the disk holds data
}

// File is one file of the folder.
type File struct {
	Path   string // below the folder
	Data   []byte
	Secret bool // holds secrets
}

// maxCmdline is what x86 and arm64 kernels keep of a command line, in bytes
// (COMMAND_LINE_SIZE), less one for its end.
const maxCmdline = 2047

// Render makes the folder's files. A configuration that its sum verifies is
// served by its digest, so that a host in the middle of its boot still finds
// the one it was told of.
func Render(ctx context.Context, loaded *config.Loaded, o Options) ([]File, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	served, common := o.served(loaded)
	common = append(common, o.installArgs()...)
	files := []File{served, {Path: "boot.ipxe", Data: entryScript(o.URL.Reveal(), o.Hosts)}}
	for _, h := range append([]Host{{}}, o.Hosts...) {
		effective, err := h.effective(ctx, loaded)
		if err != nil {
			return nil, err
		}
		made, err := o.host(h, effective, slices.Concat(common, h.args(), o.Args, h.Args))
		if err != nil {
			return nil, err
		}
		files = append(files, made...)
	}
	return files, nil
}

// SignedPath is the name below the folder of a configuration that a signature
// verifies.
const SignedPath = "config/signed.yaml"

// served is the configuration as hosts fetch it, and the kernel arguments that
// say where it is and what must hold of it.
func (o Options) served(loaded *config.Loaded) (f File, args []string) {
	f = File{Path: SignedPath, Data: loaded.Explicit(), Secret: loaded.HoldsSecrets()}
	pin := "firstboot.config.signedBy=" + o.SignedBy
	if o.SignedBy == "" {
		sum := sha256.Sum256(f.Data)
		f.Path, pin = fmt.Sprintf("config/%x.yaml", sum[:8]), fmt.Sprintf("firstboot.config.sha256=%x", sum)
	}
	return f, []string{"firstboot.config=" + o.at(f.Path), pin}
}

// host makes the files of one host, or of all others.
func (o Options) host(h Host, effective *config.Loaded, args []string) ([]File, error) {
	args = slices.Concat(o.initrdArgs(), args, o.ignitionArgs())
	if n := len(strings.Join(args, " ")); n > maxCmdline {
		return nil, fmt.Errorf("cannot boot %s: its kernel command line has %d bytes, kernels keep %d", h.label(), n, maxCmdline)
	}
	rendered, err := ignition.Render(effective, ignition.Options{Hostname: effective.Config.Host.Name})
	if err != nil {
		return nil, err
	}
	files := []File{{Path: h.script(), Data: hostScript(o, h, args)}}
	files = append(files, File{Path: "matchbox/ignition/" + h.id() + ".ign", Data: rendered.JSON, Secret: effective.HoldsSecrets()})
	more, err := matchbox(o, h, args)
	return append(files, more...), err
}

// at is the address of a file of the folder, or of one elsewhere.
func (o Options) at(name string) string {
	if !IsLocal(name) {
		return name
	}
	return strings.TrimSuffix(o.URL.Reveal(), "/") + "/" + name
}

// IsLocal tells a file of the folder from an address elsewhere.
func IsLocal(name string) bool { return !strings.Contains(name, "://") }

// initrdArgs name the initrds as UEFI kernels want it.
func (o Options) initrdArgs() []string {
	args := make([]string, len(o.Initrd))
	for i, name := range o.Initrd {
		args[i] = "initrd=" + base(name)
	}
	return args
}

// base is the name of a file in iPXE's memory.
func base(name string) string {
	if u, err := url.Parse(name); err == nil {
		name = u.Path
	}
	return path.Base(name)
}

func (o Options) ignitionArgs() []string {
	if o.Ignition == "" {
		return nil
	}
	return []string{"ignition.firstboot", "ignition.platform.id=metal",
		"ignition.config.url=" + strings.TrimSuffix(o.Ignition.Reveal(), "/") + "/ignition?uuid=${uuid}&mac=${mac:hexhyp}"}
}

// installArgs have firstboot-disk.service of the live root write the disk, in
// the place of a run.
func (o Options) installArgs() []string {
	in := o.Install
	if in == nil {
		return nil
	}
	args := []string{
		// The target as well: systemd reaches one whose required service is
		// masked (measured, systemd 252).
		"systemd.mask=firstboot.service", "systemd.mask=firstboot-complete.target", "systemd.wants=firstboot-disk.service",
		"firstboot.install.image=" + in.Image.URL.Reveal(), "firstboot.install.sha256=" + in.Image.SHA256,
		"firstboot.install.disk=" + in.Disk,
	}
	if in.Wipe {
		args = append(args, "firstboot.install.wipe=true")
	}
	return args
}

// Check refuses options that no host could boot with.
func (o Options) Check() error {
	if err := images.CheckURL(o.URL); err != nil {
		return engine.WithHint(fmt.Errorf("cannot use --url: %w", err), "give the address at which hosts see the folder: --url http://10.0.0.5:8080")
	}
	for _, name := range append([]string{o.Kernel}, o.Initrd...) {
		if name == "" || badWord(name) {
			return fmt.Errorf("cannot boot %q: not a file's name or address", images.Truncate(name))
		}
	}
	for _, arg := range o.Args {
		if err := checkArg(arg); err != nil {
			return err
		}
	}
	if o.Ignition != "" {
		if err := images.CheckURL(o.Ignition); err != nil {
			return fmt.Errorf("cannot use --matchbox: %w", err)
		}
	}
	if o.SignedBy != "" && (badWord(o.SignedBy) || !path.IsAbs(o.SignedBy) || path.Clean(o.SignedBy) != o.SignedBy || o.SignedBy == "/") {
		return engine.WithHint(fmt.Errorf("cannot use --signed-by %q: not the absolute path of a public key in the host's image", images.Truncate(o.SignedBy)),
			"--signed-by /etc/firstboot/site.asc")
	}
	return o.Install.check()
}

func (in *Install) check() error {
	if in == nil {
		return nil
	}
	if err := in.Image.Check("--image", "--sha256"); err != nil {
		return err
	}
	if !strings.HasPrefix(in.Disk, "/dev/") || badWord(in.Disk) {
		return engine.WithHint(fmt.Errorf("cannot install on %q: not a device", images.Truncate(in.Disk)), "--disk /dev/vda")
	}
	return nil
}

// badWord tells what cannot be a word of an iPXE script and of a kernel
// command line: both know no escapes.
func badWord(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\'' || r == '\\' })
}

// checkArg refuses what would not arrive as one argument; "…" around a value
// with blanks is the kernel's own way.
func checkArg(arg string) error {
	plain := arg
	if name, value, ok := strings.Cut(arg, "="); ok && len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		plain = name + strings.ReplaceAll(value[1:len(value)-1], " ", "")
	}
	if arg == "" || badWord(plain) {
		return engine.WithHint(fmt.Errorf("cannot use the kernel argument %q", images.Truncate(arg)), `write NAME=VALUE, or NAME="VALUE WITH BLANKS"`)
	}
	return nil
}
