//go:build integration

package images_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/vincent-petithory/dataurl"

	"github.com/projecteru2/firstboot/test/boottest"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

// reader is a user who pastes the README's commands into a shell, section by section,
// in one directory.
type reader struct {
	t        *testing.T
	sections map[string]string // the commands of each section
	dir      string
	net      *boottest.Network // nil for this machine's network
	path     string            // PATH, with firstboot
}

func newReader(t *testing.T, net *boottest.Network) *reader {
	t.Helper()
	r := &reader{t: t, sections: map[string]string{}, dir: t.TempDir(), net: net}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile(`(?m)^##+ (.+)$`)
	block := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	starts := heading.FindAllSubmatchIndex(text, -1)
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		for _, found := range block.FindAllSubmatch(text[at[1]:end], -1) {
			r.sections[string(text[at[2]:at[3]])] += string(found[1])
		}
	}
	r.path = filepath.Dir(provisiontest.BuildProgram(t)) + ":" + os.Getenv("PATH")
	return r
}

// paste runs the commands of one section.
func (r *reader) paste(section string) {
	r.t.Helper()
	if r.sections[section] == "" {
		r.t.Fatalf("the README has no commands in its section %q", section)
	}
	r.run("bash", "-euc", r.sections[section])
}

// run runs a command in the reader's directory and returns its stdout.
func (r *reader) run(name string, args ...string) string {
	r.t.Helper()
	c := exec.Command(name, args...)
	if r.net != nil {
		c = r.net.Command(name, args...)
	}
	var errors strings.Builder
	c.Dir, c.Env, c.Stderr = r.dir, append(os.Environ(), "PATH="+r.path), &errors
	out, err := c.Output()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errors.String())
	}
	return string(out)
}

func (r *reader) read(name string) []byte {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return data
}

// digest returns the digest of a configuration.
func (r *reader) digest(text []byte) string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
	var shown struct{ Digest string }
	if err := json.Unmarshal([]byte(r.run("firstboot", "config", "--config", file, "-o", "json")), &shown); err != nil {
		r.t.Fatal(err)
	}
	return shown.Digest
}

// methods pastes the sections of all provisioning methods, and checks that each passes
// the configuration in my.yaml.
func (r *reader) methods() {
	r.t.Helper()
	for _, section := range []string{"Golden image", "cloud-init", "Ignition", "PXE"} {
		r.paste(section)
	}
	want := r.digest(r.read("my.yaml"))
	for method, text := range map[string][]byte{
		"golden image": r.read("image/etc/firstboot/config.yaml"),
		"cloud-init":   r.userData("user-data"), "cloud-init, stock": r.userData("user-data-stock"),
		"Ignition": r.ignition("host.ign"), "Ignition, stock": r.ignition("stock.ign"),
		"PXE": r.netboot(),
	} {
		if got := r.digest(text); got != want {
			r.t.Errorf("%s: configuration %s, want that of my.yaml, %s:\n%s", method, got, want, text)
		}
	}
	r.run("systemctl", "--root=image", "is-enabled", "firstboot.service", "firstboot-complete.target")
	if got := r.run("blkid", "--probe", "--match-tag", "LABEL", "--output", "value", "seed.iso"); got != "cidata\n" {
		r.t.Errorf("the seed disk has the label %q", got)
	}
}

// userData returns the configuration in user-data, after the image's cloud-init has
// validated it.
func (r *reader) userData(name string) []byte {
	r.t.Helper()
	data := r.read(name)
	if err := os.WriteFile(filepath.Join(r.dir, "image/root", name), data, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if out := r.run("chroot", "image", "cloud-init", "schema", "--config-file", "/root/"+name); !strings.Contains(out, "Valid cloud-config") {
		r.t.Errorf("cloud-init reports for %s: %s", name, out)
	}
	var all struct{ Firstboot map[string]any }
	if err := yaml.Unmarshal(data, &all); err != nil {
		r.t.Fatal(err)
	}
	text, err := yaml.Marshal(all.Firstboot)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// ignition returns the configuration in an Ignition config, after Ignition's validator
// has accepted it.
func (r *reader) ignition(name string) []byte {
	r.t.Helper()
	if out := r.run("ignition-validate", name); out != "" {
		r.t.Errorf("ignition-validate reports for %s: %s", name, out)
	}
	var config struct {
		Storage struct {
			Files []struct {
				Path     string
				Contents struct{ Source string }
			}
		}
	}
	if err := json.Unmarshal(r.read(name), &config); err != nil {
		r.t.Fatal(err)
	}
	for _, f := range config.Storage.Files {
		if f.Path == "/etc/firstboot/config.yaml" {
			u, err := dataurl.DecodeString(f.Contents.Source)
			if err != nil {
				r.t.Fatal(err)
			}
			return u.Data
		}
	}
	r.t.Fatalf("%s contains no configuration", name)
	return nil
}

// netboot returns the configuration that the kernel command line names, after it has
// checked the digest.
func (r *reader) netboot() []byte {
	r.t.Helper()
	named := regexp.MustCompile(`firstboot\.config=http://10\.0\.0\.5:8080/(\S+) firstboot\.config\.sha256=(\S+)`).
		FindSubmatch(r.read("srv/hosts/firstboot-default.ipxe"))
	if named == nil {
		r.t.Fatal("the script names no configuration")
	}
	file := "srv/" + string(named[1])
	if digest, _, _ := strings.Cut(r.run("sha256sum", file), " "); digest != string(named[2]) {
		r.t.Errorf("%s has the digest %s, its script has %s", file, digest, named[2])
	}
	return r.read(file)
}

// artifacts serves the three artifacts of the README's configuration.
func artifacts(t *testing.T) http.Handler {
	t.Helper()
	files := map[string][]byte{
		"/calicoctl":       provisiontest.Calicoctl(t, "v3.23.0"),
		"/calico-node.tar": provisiontest.ImageArchive(t, "calico/node:v3.23.0"),
		"/eru-minions.rpm": provisiontest.Package(t, "eru-minions", "noarch"),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		data, ok := files[req.URL.Path]
		if !ok {
			http.NotFound(w, req)
			return
		}
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
	})
}

// TestREADME pastes the README's commands unchanged, first the configuration and
// then the section of each provisioning method. There is no network except loopback.
func TestREADME(t *testing.T) {
	m := boottest.New(t, []string{"cloud-init"})
	r := newReader(t, m.Net)
	if err := os.Symlink(m.Root, filepath.Join(r.dir, "image")); err != nil {
		t.Fatal(err)
	}
	r.run("ip", "address", "add", "10.0.0.5/32", "dev", "lo")
	m.Net.Serve(8080, artifacts(t))
	r.paste("A first configuration")
	r.methods()
	bundled, err := filepath.Glob(m.Root + "/usr/lib/firstboot/bundle/sha256/*")
	if err != nil || len(bundled) != 3 {
		t.Errorf("the image's bundle contains %v, %v; want three artifacts", bundled, err)
	}
}
