package config

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// Options say where Load looks.
type Options struct {
	Root           string   // the machine's or image's root folder; empty: /
	Files          []string // --config: exactly these over the defaults, every other source left out
	Cmdline        string   // the kernel's command line; empty: /proc/cmdline where Root is /
	NoCmdline      bool     // leave the kernel's command line out
	CredentialsDir string   // $CREDENTIALS_DIRECTORY of the service, a path of this process; empty: none
	Unpinned       bool     // accept a url without a sha256, for who is about to find it out (Pin)

	// Fetch gets what firstboot.config=URL on the kernel's command line names,
	// and its signature. Its answer is checked here. nil: such a URL is refused.
	Fetch func(ctx context.Context, url URL) ([]byte, error)
	// Verify checks the armored detached OpenPGP signature over data by one of
	// the armored public keys. nil: firstboot.config.signedBy is refused.
	Verify func(data, signature, keys []byte) error
}

// Loaded is a valid configuration and where each of its values came from.
type Loaded struct {
	Config   *Config
	Origins  map[string]string // key ("etcd.endpoints", "sysctl.net.ipv4.ip_forward") → "FILE:LINE:COL", "default", "kernel command line", "credential firstboot.config"
	Digest   string            // "sha256:…" of the effective values, see Digest
	Warnings []Problem
}

// Load reads all sources, each over the one before, and validates the
// result. What is wrong in the configuration comes back as Problems, all at
// once; any other error is one of reaching a source.
func Load(ctx context.Context, o Options) (*Loaded, error) {
	l := &loader{ctx: ctx, options: o, tree: tree{filepath.Clean("/" + o.Root)}}
	if err := l.readSources(); err != nil {
		return nil, err
	}
	return l.finish()
}

// gathering collects decoded sources, lowest first.
type loader struct {
	ctx      context.Context
	options  Options
	tree     tree
	decoded  []*decoder
	warnings Problems
}

func (l *loader) add(sources ...Source) {
	for _, s := range sources {
		l.decoded = append(l.decoded, decode(s))
	}
}

// sources reads every source, in the order in which they overrule each other.
func (l *loader) readSources() error {
	if len(l.options.Files) > 0 {
		named, err := readFiles(l.options.Files)
		l.add(named...)
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

// credential reads the systemd credential, in the folder that systemd made
// for the service.
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

// kernel reads the command line: first the configuration that it names by
// URL, over that its single values.
func (l *loader) readCmdline() error {
	line := l.options.Cmdline
	if l.options.NoCmdline {
		return nil
	}
	if line == "" {
		if l.tree.root != "/" {
			return nil // an image was not booted
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

// finish merges, validates and describes what was gathered.
func (l *loader) finish() (*Loaded, error) {
	layers, names := []layer{defaults()}, []string{}
	var problems Problems
	for _, d := range l.decoded {
		layers, names = append(layers, d.layer), append(names, d.source.Name)
		problems = append(problems, d.problems...)
	}
	merged := merge(layers...)
	cfg, wrong, warnings := validate(merged, l.options.Unpinned)
	problems = append(problems, wrong...)
	problems = append(problems, l.missingKeys(cfg)...)
	if len(problems) > 0 {
		return nil, problems.sorted(names).truncated()
	}
	warnings = append(warnings, l.checkPermissions(merged)...)
	warnings = append(l.warnings, warnings...).sorted(names)
	return &Loaded{Config: cfg, Origins: merged.origins(), Digest: Digest(cfg), Warnings: warnings}, nil
}

// missing reports the required keys that no source has. A source that could
// not be read, or that tried and was refused, already has its problem.
func (l *loader) missingKeys(cfg *Config) Problems {
	given := map[string]bool{}
	for _, s := range flatten(cfg) {
		given[s.path] = !isZero(s.value)
	}
	var problems Problems
	for _, path := range required() {
		refused := slices.ContainsFunc(l.decoded, func(d *decoder) bool {
			_, ok := d.layer[path]
			return d.unreadable || d.seen[path] && !ok
		})
		if !given[path] && !refused {
			problems = append(problems, l.missingKey(path))
		}
	}
	return problems
}

// absent reports a required key at the last mention of it or its section,
// else at the beginning of the last file.
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

// files are the names of the sources with lines.
func (l *loader) files() []string {
	var names []string
	for _, d := range l.decoded {
		if d.source.Name != CmdlineName {
			names = append(names, d.source.Name)
		}
	}
	return names
}

// IsInvalid gives the Problems in err, if it is about what the configuration
// says (and not about reaching a source).
func IsInvalid(err error) (Problems, bool) {
	var p Problems
	ok := errors.As(err, &p)
	return p, ok
}
