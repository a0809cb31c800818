// Package pxe renders the directory from which hosts boot over the network: iPXE
// scripts, the configuration that hosts download, and files for matchbox. Hosts
// verify the configuration by a digest on the kernel command line.
package pxe

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/images/ignition"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/internal/secret"
)

// Options select what hosts boot, and from where.
type Options struct {
	URL    secret.URL // where the directory is served
	Kernel string     // its path below URL, or another URL
	Initrd []string   // like Kernel, in order
	Args   []string   // kernel arguments for every host
	Hosts  []Host     // hosts with their own values
	// Ignition is the URL of a matchbox. If set, kernel arguments tell Ignition to
	// load a host's config from there.
	Ignition secret.URL
	// SignedBy is the path of a public key on the host. If set, the configuration
	// has a fixed name and is verified by a signature next to it, which the user
	// creates. If empty, it is verified by its digest.
	SignedBy string
	// Install makes hosts write their disks instead of running from memory. It may
	// be nil.
	Install *Install
}

// Install describes a disk image to install from a live root.
type Install struct {
	Image images.Remote
	Disk  string // device, such as /dev/vda
	Wipe  bool   // overwrite a disk that holds data
}

// File is a file of the directory.
type File struct {
	Path   string // below the directory
	Data   []byte
	Secret bool // holds secrets
}

// maxCmdline is the longest command line that x86 and arm64 kernels accept, in bytes:
// COMMAND_LINE_SIZE without the terminating zero.
const maxCmdline = 2047

// Render returns the directory's files. A configuration that is verified by digest
// is named after it, so that a host that is booting still finds the one on its
// command line.
func Render(ctx context.Context, loaded *config.Loaded, o Options) ([]File, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	values, plain, err := o.commonValues()
	if err != nil {
		return nil, err
	}
	served, common := o.configFile(loaded)
	common = slices.Concat(common, o.installArgs(), valueArgs(values))
	files := []File{served, {Path: "boot.ipxe", Data: entryScript(o.URL.Reveal(), o.Hosts)}}
	all := append([]Host{{at: config.Problem{File: "--arg"}}}, o.Hosts...)
	configs, err := effectiveConfigs(ctx, loaded, all, valueArgs(values))
	if err != nil {
		return nil, err
	}
	for i, h := range all {
		effective := configs[i]
		hostFiles, err := o.hostFiles(h, effective, slices.Concat(common, h.args(), plain, h.Args))
		if err != nil {
			return nil, err
		}
		files = append(files, hostFiles...)
	}
	o.markSecrets(files)
	return files, nil
}

// effectiveConfigs returns the configurations that the hosts will load, or the problems
// of all hosts' values. common are kernel arguments that set values of every host.
func effectiveConfigs(ctx context.Context, loaded *config.Loaded, hosts []Host, common []string) ([]*config.Loaded, error) {
	root, err := os.MkdirTemp("", "firstboot-pxe")
	if err != nil {
		return nil, fmt.Errorf("cannot check the values of the hosts: %w", err)
	}
	defer os.RemoveAll(root)
	path := filepath.Join(root, config.MainFile)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, loaded.Explicit(), 0o600)); err != nil {
		return nil, fmt.Errorf("cannot check the values of the hosts: %w", err)
	}
	configs := make([]*config.Loaded, len(hosts))
	var all config.Problems
	for i, h := range hosts {
		var err error
		configs[i], err = h.effective(ctx, root, loaded, common)
		problems, invalid := config.IsInvalid(err)
		if err != nil && !invalid {
			return nil, err
		}
		if all = append(all, problems...); len(all) >= maxProblems || i == 0 && invalid {
			break // each host has the problems of the first, which has --arg only
		}
	}
	if len(all) > 0 {
		return nil, all
	}
	return configs, nil
}

// markSecrets marks the files that contain a secret of a URL: its query may be a token.
func (o Options) markSecrets(files []File) {
	var secrets []string
	add := func(key, value string) { secrets = append(secrets, secretsOf(key, value)...) }
	for _, name := range append([]string{o.URL.Reveal(), o.Ignition.Reveal(), o.Kernel}, o.Initrd...) {
		add("", name)
	}
	if o.Install != nil {
		add("", o.Install.Image.URL.Reveal())
	}
	addArgs := func(args []string) {
		for _, arg := range args {
			key, value, isValue := cutValue(arg)
			if !isValue {
				_, value, _ = strings.Cut(arg, "=")
			}
			add(key, strings.Trim(value, `"`))
		}
	}
	addArgs(o.Args)
	for _, h := range o.Hosts {
		addArgs(h.Args)
		addArgs(valueArgs(h.Values))
	}
	if len(secrets) == 0 {
		return
	}
	mask := secret.NewMask(secrets...)
	for i, f := range files {
		if text := string(f.Data); mask.Text(text) != text {
			files[i].Secret = true
		}
	}
}

// SignedPath is the path below the directory of a configuration that is verified by a
// signature.
const SignedPath = "config/signed.yaml"

// configFile returns the configuration that hosts download, and the kernel arguments
// that name it and its digest or key.
func (o Options) configFile(loaded *config.Loaded) (f File, args []string) {
	f = File{Path: SignedPath, Data: loaded.Explicit(), Secret: loaded.HoldsSecrets()}
	pin := "firstboot.config.signedBy=" + o.SignedBy
	if o.SignedBy == "" {
		digest := sha256.Sum256(f.Data)
		f.Path, pin = fmt.Sprintf("config/%x.yaml", digest[:8]), fmt.Sprintf("firstboot.config.sha256=%x", digest)
	}
	return f, []string{"firstboot.config=" + o.url(f.Path), pin}
}

// hostFiles returns the files of one host, or of all hosts not listed.
func (o Options) hostFiles(h Host, effective *config.Loaded, args []string) ([]File, error) {
	args = slices.Concat(o.initrdArgs(), args, o.ignitionArgs())
	if n := len(strings.Join(args, " ")); n > maxCmdline {
		return nil, fmt.Errorf("cannot boot %s: its kernel command line has %d bytes, the limit is %d", h.label(), n, maxCmdline)
	}
	rendered, err := ignition.Render(effective, ignition.Options{Hostname: effective.Config.Host.Name})
	if err != nil {
		return nil, err
	}
	files := []File{{Path: h.script(), Data: hostScript(o, h, args)}}
	files = append(files, File{Path: "matchbox/ignition/" + h.id() + ".ign", Data: rendered.JSON, Secret: effective.HoldsSecrets()})
	more, err := matchboxFiles(o, h, args)
	return append(files, more...), err
}

// url returns the URL of a file of the directory. A name that is a URL is returned
// unchanged.
func (o Options) url(name string) string {
	if !IsLocal(name) {
		return name
	}
	return strings.TrimSuffix(o.URL.Reveal(), "/") + "/" + name
}

// IsLocal reports whether name is a file of the directory, not a URL.
func IsLocal(name string) bool { return !strings.Contains(name, "://") }

// initrdArgs returns the arguments that name the initrds, which UEFI kernels need.
func (o Options) initrdArgs() []string {
	args := make([]string, len(o.Initrd))
	for i, name := range o.Initrd {
		args[i] = "initrd=" + baseName(name)
	}
	return args
}

// baseName returns the name of a downloaded file in iPXE.
func baseName(name string) string {
	if u, err := url.Parse(name); err == nil {
		name = u.Path
	}
	return path.Base(name)
}

// ignitionArgs returns the arguments that tell Ignition where its config is.
func (o Options) ignitionArgs() []string {
	if o.Ignition == "" {
		return nil
	}
	return []string{"ignition.firstboot", "ignition.platform.id=metal",
		"ignition.config.url=" + strings.TrimSuffix(o.Ignition.Reveal(), "/") + "/ignition?uuid=${uuid}&mac=${mac:hexhyp}"}
}

// installArgs returns the arguments that start firstboot-disk.service in the live
// root instead of a run.
func (o Options) installArgs() []string {
	in := o.Install
	if in == nil {
		return nil
	}
	args := []string{
		// The target is masked too: systemd activates a target although a service
		// that it requires is masked (measured, systemd 252).
		"systemd.mask=firstboot.service", "systemd.mask=firstboot-complete.target", "systemd.wants=firstboot-disk.service",
		"firstboot.install.image=" + in.Image.URL.Reveal(), "firstboot.install.sha256=" + in.Image.SHA256,
		"firstboot.install.disk=" + in.Disk,
	}
	if in.Wipe {
		args = append(args, "firstboot.install.wipe=true")
	}
	return args
}

// Check reports an error if no host can boot with the options.
func (o Options) Check() error {
	if err := checkBase(o.URL); err != nil {
		return engine.WithHint(fmt.Errorf("cannot use --url: %w", err), "set the URL at which hosts reach the directory: --url http://10.0.0.5:8080")
	}
	for _, name := range append([]string{o.Kernel}, o.Initrd...) {
		if hasPassword(name) {
			return fmt.Errorf("cannot boot %s: %w", secret.URL(name), errPassword)
		}
		if name == "" || hasSpecial(name) {
			return fmt.Errorf("cannot boot %q: not a file name or URL", images.Truncate(name))
		}
		if err := checkSettings(secret.URL(name).String(), name); err != nil {
			return err
		}
	}
	for _, arg := range o.Args {
		if err := checkArg(arg); err != nil {
			return err
		}
	}
	if _, _, err := o.commonValues(); err != nil {
		return err
	}
	if o.Ignition != "" {
		if err := checkBase(o.Ignition); err != nil {
			return fmt.Errorf("cannot use --matchbox: %w", err)
		}
	}
	if o.SignedBy != "" && (hasSpecial(o.SignedBy) || !path.IsAbs(o.SignedBy) || path.Clean(o.SignedBy) != o.SignedBy || o.SignedBy == "/") {
		return engine.WithHint(fmt.Errorf("cannot use --signed-by %q: not an absolute path of a public key in the host's image", images.Truncate(o.SignedBy)),
			"--signed-by /etc/firstboot/site.asc")
	}
	return o.Install.check()
}

// check reports an error if the disk image cannot be installed; nil is valid.
func (in *Install) check() error {
	if in == nil {
		return nil
	}
	if hasPassword(in.Image.URL.Reveal()) {
		return engine.WithHint(fmt.Errorf("cannot use --image %s: %w", in.Image.URL, errPassword),
			"serve the image without a password: its sha256 verifies it")
	}
	if err := in.Image.Check("--image", "--sha256"); err != nil {
		return err
	}
	if !strings.HasPrefix(in.Disk, "/dev/") || hasSpecial(in.Disk) || strings.Contains(in.Disk, "${") {
		return engine.WithHint(fmt.Errorf("cannot install on %q: not a device", images.Truncate(in.Disk)), "--disk /dev/vda")
	}
	return nil
}

// errPassword is the error of a URL with a password. Files of the boot server and the
// kernel command line are no place for one.
var errPassword = errors.New("it contains a password, which every user of a host, and everyone who can reach the server, could read")

// hasPassword reports whether text contains a URL with a user or a password.
func hasPassword(text string) bool {
	for from := 0; ; {
		n := strings.Index(text[from:], "://")
		if n < 0 {
			return false
		}
		from += n + len("://")
		authority := text[from:]
		if end := strings.IndexAny(authority, "/?#"); end >= 0 {
			authority = authority[:end]
		}
		if strings.Contains(authority, "@") {
			return true
		}
	}
}

// checkURL is images.CheckURL for URLs that must not contain a password.
func checkURL(location secret.URL) error {
	if hasPassword(location.Reveal()) {
		return errPassword
	}
	return images.CheckURL(location)
}

// checkBase is checkURL for the URL of a directory: file names are appended to it.
func checkBase(location secret.URL) error {
	if err := checkURL(location); err != nil {
		return err
	}
	if strings.ContainsAny(location.Reveal(), "?#") {
		return errors.New("the URL of a directory has neither a query (?) nor a fragment (#)")
	}
	return nil
}

// hasSpecial reports whether s contains characters that are not allowed in a word of
// an iPXE script or a kernel command line. Neither supports escapes.
func hasSpecial(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\'' || r == '\\' })
}
