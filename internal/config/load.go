package config

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/projecteru2/firstboot/internal/secret"
)

// Options select the sources that Load reads.
type Options struct {
	Root           string   // root directory of the machine or image; empty: /
	Files          []string // --config: only these files, over the defaults; no other source is read
	Cmdline        string   // the kernel command line; empty: /proc/cmdline if Root is /
	NoCmdline      bool     // ignore the kernel command line
	CredentialsDir string   // $CREDENTIALS_DIRECTORY of the service, not below Root; empty: no credentials
	Unpinned       bool     // accept a url without a sha256, for callers that then determine it (Pin)

	// Fetch downloads the configuration that firstboot.config=URL on the kernel
	// command line names, and its signature. Load verifies the result. nil: Load
	// fails if there is such a URL.
	Fetch func(ctx context.Context, url secret.URL) ([]byte, error)
	// Verify checks an armored detached OpenPGP signature over data by one of
	// the armored public keys. nil: Load fails if firstboot.config.signedBy is
	// set.
	Verify func(data, signature, keys []byte) error
	// CommonName returns the CN of the certificate in a file of the machine, to
	// compare it with etcd.username. nil: it is not compared, because the
	// configuration is for another machine.
	CommonName func(path string) (string, error)
}

// Loaded is a valid configuration with the origin of each value.
type Loaded struct {
	Config   *Config
	Origins  map[string]string // key ("etcd.endpoints", "sysctl.net.ipv4.ip_forward") → "FILE:LINE:COL", "default", "kernel command line", "credential firstboot.config"
	Digest   string            // "sha256:…" of the values that the sources set, without defaults
	Defaults int               // version of the defaults for the other values
	Warnings []Problem
}

// Load reads all sources, merges them in order and validates the result. If
// the configuration is invalid, the error is of type Problems and lists all
// problems. Any other error means that a source could not be read.
func Load(ctx context.Context, o Options) (*Loaded, error) {
	l := &loader{ctx: ctx, options: o, tree: tree{filepath.Clean("/" + o.Root)}}
	if err := l.readSources(); err != nil {
		return nil, err
	}
	return l.finish()
}

// LoadIncomplete returns what the files of an image set, over the defaults. It does
// not validate it: user-data may complete the configuration of the image's hosts.
func LoadIncomplete(root string) (*Config, error) {
	l := &loader{options: Options{NoCmdline: true}, tree: tree{filepath.Clean("/" + root)}}
	if err := l.readSources(); err != nil {
		return nil, err
	}
	merged := defaults()
	for _, d := range l.decoded {
		merged = merge(merged, d.layer)
	}
	return merged.config(), nil
}

// loader collects decoded sources, lowest priority first.
type loader struct {
	ctx      context.Context
	options  Options
	tree     tree
	decoded  []*decoder
	saved    bool // decoded is a saved configuration, which is complete
	warnings Problems
}

func (l *loader) add(sources ...Source) {
	for _, s := range sources {
		l.decoded = append(l.decoded, decode(s))
	}
}

// readSources reads every source, lowest priority first.
func (l *loader) readSources() error {
	if len(l.options.Files) > 0 {
		named, err := readFiles(l.options.Files)
		for _, s := range named {
			if isUserData(s.Data) {
				l.decoded = append(l.decoded, decodeCloudConfig(s))
			} else {
				l.add(s)
			}
		}
		return err
	}
	files, warnings, err := l.tree.searchPath()
	if err != nil {
		return err
	}
	l.add(files...)
	l.warnings = append(l.warnings, warnings...)
	cloud, found, err := l.tree.cloudSource()
	if err != nil {
		return err
	}
	if found {
		l.decoded = append(l.decoded, decodeCloudConfig(cloud))
	}
	if err := l.readCredential(); err != nil {
		return err
	}
	return l.readCmdline()
}

// readCredential reads the systemd credential of the service.
func (l *loader) readCredential() error {
	if l.options.CredentialsDir == "" {
		return nil
	}
	data, found, err := tree{l.options.CredentialsDir}.read(CredentialName)
	if err != nil {
		return fmt.Errorf("cannot read the %s: %w", credentialSource, err)
	}
	if found {
		l.add(Source{Name: credentialSource, Data: data, nameOnly: true})
	}
	return nil
}

// readCmdline reads the kernel command line: first the configuration that it
// names by URL, then the single values, which win.
func (l *loader) readCmdline() error {
	line := l.options.Cmdline
	if l.options.NoCmdline {
		return nil
	}
	if line == "" {
		if l.tree.root != "/" {
			return nil // an image has no kernel command line
		}
		data, _, err := l.tree.read("/proc/cmdline")
		if err != nil {
			return err
		}
		line = string(data)
	}
	d, from := decodeCmdline(line)
	if from.present || from.sha256 != "" || from.signedBy != "" {
		if err := l.fetchRemote(d, from); err != nil {
			return err
		}
	}
	l.decoded = append(l.decoded, d)
	return nil
}

// finish merges and validates the decoded sources.
func (l *loader) finish() (*Loaded, error) {
	written, names := layer{}, []string{}
	var problems Problems
	for _, d := range l.decoded {
		written, names = merge(written, d.layer), append(names, d.source.Name)
		problems = append(problems, d.problems...)
		l.warnings = append(l.warnings, d.warnings...)
	}
	fallback := defaults()
	if l.saved {
		fallback = fallback.withoutEntries()
	}
	merged := merge(fallback, written)
	cfg, wrong, warnings := validate(merged, l.options)
	if l.saved {
		// It was valid when it was saved. A rule that this firstboot added must not
		// take away the only copy: its sources may no longer exist.
		warnings, wrong = append(warnings, wrong...), nil
	}
	problems = append(problems, wrong...)
	problems = append(problems, l.missingKeys(cfg)...)
	if len(problems) > 0 {
		return nil, problems.sorted(names).truncated()
	}
	refused, readable := l.checkPermissions(merged)
	if len(refused) > 0 {
		return nil, refused.sorted(names).truncated()
	}
	warnings = append(warnings, readable...)
	warnings = append(l.warnings, warnings...).sorted(names)
	return &Loaded{Config: cfg, Origins: merged.origins(), Digest: digest(written), Defaults: defaultsVersion, Warnings: warnings}, nil
}

// missingKeys reports the required keys that no source sets. It skips a key if
// a source could not be parsed or has an invalid value for it, because that is
// already a problem.
func (l *loader) missingKeys(cfg *Config) Problems {
	present := map[string]bool{}
	for _, s := range flatten(cfg) {
		present[s.path] = !isZero(s.value)
	}
	var problems Problems
	for _, path := range required() {
		refused := slices.ContainsFunc(l.decoded, func(d *decoder) bool {
			_, ok := d.layer[path]
			return d.unreadable || d.seen[path] && !ok
		})
		if !present[path] && !refused {
			problems = append(problems, l.missingKey(path))
		}
	}
	return problems
}

// missingKey reports a required key at the last position of the key or its
// section, else at the beginning of the last file.
func (l *loader) missingKey(path string) Problem {
	at := position{source: MainFile, line: 1, col: 1}
	section, _ := cutLast(path)
	if files := l.files(); len(files) > 0 {
		at.source = files[len(files)-1]
	}
	for _, name := range []string{section, path} {
		for _, d := range l.decoded {
			if p, ok := d.sections[name]; ok {
				at = p
			}
		}
	}
	hint := "such as " + path + ": 10.213.0.0/16"
	if path == "etcd.endpoints" {
		hint = "such as " + path + ": [http://10.0.0.1:2379]"
	}
	if len(l.decoded) == 0 || len(l.decoded) == 1 && l.decoded[0].source.Name == CmdlineName {
		hint += "; no configuration file was found"
	}
	return at.problem(path, "is required", hint)
}

// files returns the names of all sources except the kernel command line.
func (l *loader) files() []string {
	var names []string
	for _, d := range l.decoded {
		if d.source.Name != CmdlineName {
			names = append(names, d.source.Name)
		}
	}
	return names
}

// IsInvalid returns the Problems in err, and whether err is an invalid
// configuration rather than a source that could not be read.
func IsInvalid(err error) (Problems, bool) {
	var p Problems
	ok := errors.As(err, &p)
	return p, ok
}
