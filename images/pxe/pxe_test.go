package pxe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

const hostList = `hosts:
  - mac: 52-54-00-AB-34-56
    name: web-1
    values: {host.address: 10.0.0.11, sysctl.net.core.somaxconn: "1024", report.url: "http://10.0.0.5/done/${net0/mac}"}
    args: [console=ttyS1]
  - uuid: 3F0C7A1E-0000-4000-8000-1234567890AB
    name: web-2
`

func options(t *testing.T) Options {
	t.Helper()
	hosts, err := ParseHosts("hosts.yaml", []byte(hostList))
	if err != nil {
		t.Fatal(err)
	}
	return Options{URL: "http://10.0.0.5:8080/", Kernel: "vmlinuz", Initrd: []string{"http://10.0.0.6/deep/initrd.img", "extra"}, Args: []string{"quiet"}, Hosts: hosts}
}

// renderFiles returns the rendered files by path.
func renderFiles(t *testing.T, l *config.Loaded, o Options) map[string]File {
	t.Helper()
	files, err := Render(t.Context(), l, o)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]File{}
	for _, f := range files {
		if _, found := all[f.Path]; found {
			t.Errorf("duplicate %s", f.Path)
		}
		all[f.Path] = f
	}
	return all
}

const macID = "firstboot-mac-52-54-00-ab-34-56"

// kernelArgs returns the arguments on a script's kernel line.
func kernelArgs(t *testing.T, f File) []string {
	t.Helper()
	_, rest, ok := strings.Cut(string(f.Data), "\nkernel http://10.0.0.5:8080/vmlinuz ")
	line, _, _ := strings.Cut(rest, " || goto failed\n")
	if !ok {
		t.Fatalf("no kernel line in %s", f.Data)
	}
	return strings.Fields(line)
}

// Loaded from the kernel command line, as on the host, the configuration has the
// host's own values.
func TestHostLoadsItsConfiguration(t *testing.T) {
	l := provisiontest.Load(t, provisiontest.Minimal)
	files := renderFiles(t, l, options(t))
	for id, want := range map[string]string{macID: "web-1 10.0.0.11 1024", "firstboot-uuid-3f0c7a1e-0000-4000-8000-1234567890ab": "web-2  ", "firstboot-default": "  "} {
		args := kernelArgs(t, files["hosts/"+id+".ipxe"])
		loaded, err := config.Load(t.Context(), config.Options{Root: t.TempDir(), Cmdline: strings.Join(args, " "),
			Fetch: func(_ context.Context, url secret.URL) ([]byte, error) {
				name, ok := strings.CutPrefix(url.Reveal(), "http://10.0.0.5:8080/")
				if !ok {
					return nil, fmt.Errorf("%s is not in the directory", url)
				}
				return files[name].Data, nil
			}})
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		c := loaded.Config
		if got := fmt.Sprintf("%s %s %s", c.Host.Name, c.Host.Address, c.Sysctl["net.core.somaxconn"]); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
		if c.Pool.CIDR != l.Config.Pool.CIDR {
			t.Errorf("%s: pool %s", id, c.Pool.CIDR)
		}
		if !strings.Contains(strings.Join(args, " "), "initrd=initrd.img initrd=extra ") || !strings.Contains(strings.Join(args, " "), " quiet") {
			t.Errorf("%s: %v", id, args)
		}
	}
}

func TestMatchboxFilesMatchTheScripts(t *testing.T) {
	o := options(t)
	o.Ignition = "http://10.0.0.5:8081"
	files := renderFiles(t, provisiontest.Load(t, provisiontest.Minimal), o)
	var g group
	var p profile
	for path, v := range map[string]any{"groups": &g, "profiles": &p} {
		if err := json.Unmarshal(files["matchbox/"+path+"/"+macID+".json"].Data, v); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(group{ID: macID, Name: "firstboot: web-1", Profile: macID, Selector: map[string]string{"mac": "52:54:00:ab:34:56"}}, g); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(kernelArgs(t, files["hosts/"+macID+".ipxe"]), p.Boot.Args); d != "" {
		t.Error(d)
	}
	want := boot{Kernel: "http://10.0.0.5:8080/vmlinuz", Initrd: []string{"--name initrd.img http://10.0.0.6/deep/initrd.img", "--name extra http://10.0.0.5:8080/extra"}, Args: p.Boot.Args}
	if d := cmp.Diff(want, p.Boot); d != "" {
		t.Error(d)
	}
	if files["matchbox/ignition/"+p.IgnitionID].Data == nil || !strings.Contains(string(files["matchbox/ignition/"+p.IgnitionID].Data), "web-1%0A") {
		t.Errorf("the Ignition config %s is missing or has no host name", p.IgnitionID)
	}
	if !strings.Contains(strings.Join(p.Boot.Args, " "), "ignition.config.url=http://10.0.0.5:8081/ignition?uuid=${uuid}&mac=${mac:hexhyp}") {
		t.Error(p.Boot.Args)
	}
}

// The kernel arguments of a signed configuration stay the same when it changes.
func TestSignedConfigurationHasAFixedName(t *testing.T) {
	o := options(t)
	o.SignedBy = "/etc/firstboot/site.asc"
	before := renderFiles(t, provisiontest.Load(t, provisiontest.Minimal), o)
	after := renderFiles(t, provisiontest.Load(t, provisiontest.Minimal+"sysctl: {net.core.somaxconn: 2048}\n"), o)
	for _, name := range []string{"hosts/firstboot-default.ipxe", "hosts/" + macID + ".ipxe", "matchbox/profiles/" + macID + ".json"} {
		if d := cmp.Diff(string(before[name].Data), string(after[name].Data)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	args := strings.Join(kernelArgs(t, after["hosts/firstboot-default.ipxe"]), " ")
	if !strings.Contains(args, "firstboot.config=http://10.0.0.5:8080/config/signed.yaml firstboot.config.signedBy=/etc/firstboot/site.asc") || strings.Contains(args, "sha256") {
		t.Error(args)
	}
	if !strings.Contains(string(after[SignedPath].Data), "2048") || string(before[SignedPath].Data) == string(after[SignedPath].Data) {
		t.Errorf("%s", after[SignedPath].Data)
	}
}

func TestInstallReplacesTheRun(t *testing.T) {
	o := options(t)
	o.Install = &Install{Image: images.Remote{URL: "http://10.0.0.5/g.raw.zst", SHA256: provisiontest.FakeDigest()}, Disk: "/dev/vda", Wipe: true}
	args := strings.Join(kernelArgs(t, renderFiles(t, provisiontest.Load(t, provisiontest.Minimal), o)["hosts/firstboot-default.ipxe"]), " ")
	want := "systemd.mask=firstboot.service systemd.mask=firstboot-complete.target systemd.wants=firstboot-disk.service firstboot.install.image=http://10.0.0.5/g.raw.zst" +
		" firstboot.install.sha256=" + provisiontest.FakeDigest() + " firstboot.install.disk=/dev/vda firstboot.install.wipe=true"
	if !strings.Contains(args, want) {
		t.Errorf("%s does not contain %s", args, want)
	}
}

func TestInvalidOptionsAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"cannot use --url":               func(o *Options) { o.URL = "10.0.0.5" },
		"cannot boot \"a b\"":            func(o *Options) { o.Kernel = "a b" },
		"cannot use the kernel argument": func(o *Options) { o.Args = []string{"a\nb"} },
		"cannot use --matchbox":          func(o *Options) { o.Ignition = "ftp://a" },
		"cannot use --image without":     func(o *Options) { o.Install = &Install{Image: images.Remote{URL: "http://a/b"}} },
		"cannot install on \"vda\"": func(o *Options) {
			o.Install = &Install{Image: images.Remote{URL: "http://a/b", SHA256: provisiontest.FakeDigest()}, Disk: "vda"}
		},
		"cannot use --signed-by \"site.asc\"":                            func(o *Options) { o.SignedBy = "site.asc" },
		"cannot use --signed-by \"/a b\"":                                func(o *Options) { o.SignedBy = "/a b" },
		"the limit is 2047":                                              func(o *Options) { o.Args = []string{"a=" + strings.Repeat("x", 2000)} },
		"cannot use the values of web-1: ":                               func(o *Options) { o.Hosts[0].Values = map[string]string{"host.adress": "10.0.0.1"} },
		"host.name: cannot use the values of Web: must be in lower case": func(o *Options) { o.Hosts[0].Name = "Web" },
	} {
		o := options(t)
		change(&o)
		_, err := Render(t.Context(), provisiontest.Load(t, provisiontest.Minimal), o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestInvalidListOfHostsIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"hosts: [{name: a}]":                      "hosts.yaml:1:9: a host needs either a mac or a uuid",
		"hosts: [{mac: 52:54:00:12:34}]":          "1:10: mac: \"52:54:00:12:34\" is not a MAC address",
		"hosts: [{uuid: 1-2}]":                    "uuid: \"1-2\" is not a UUID",
		"hosts: [{mac: 52:54:00:12:34:56, x: 1}]": "hosts.yaml:1:34: unknown key \"x\"",
		"hosts: {":      "hosts.yaml:1:",
		"hosts: {a: b}": "hosts: must be a list",
		"hosts: [a]":    "must be a mapping",
		"- a":           "must be a mapping",
		"":              "must be one YAML document",
		"host: []":      "unknown key \"host\"",
		"hosts: [{mac: 52:54:00:12:34:56, name: }]":                                                                                       "name: has no value",
		"hosts: [{mac: 52:54:00:12:34:56, mac: 52:54:00:12:34:57}]":                                                                       "mac: duplicate key",
		"hosts: [{mac: 52:54:00:12:34:56, name: [a]}]":                                                                                    "name: must be text",
		"hosts: [&a {mac: 52:54:00:12:34:56}, *a]":                                                                                        "anchors, aliases and merge keys are not allowed",
		"hosts: [{mac: 52:54:00:12:34:56, name: localhost}]":                                                                              "name: \"localhost\" is not a unique host name",
		"hosts: [{mac: 52:54:00:12:34:56, name: 1_000}]":                                                                                  "name: \"1_000\" is not an RFC 1123 name",
		"hosts:\r\n# a comment\r\n  - {mac: 52:54:00:12:34:56, x: 1}":                                                                     "hosts.yaml:3:",
		"hosts: [{mac: 52:54:00:12:34:56}, {mac: 52-54-00-12-34-56}]":                                                                     "duplicate MAC address 52:54:00:12:34:56, first on line 1",
		"hosts: [{mac: 52:54:00:12:34:56, name: a}, {mac: 52:54:00:12:34:57, name: a}]":                                                   "duplicate name a",
		"hosts: [{uuid: 3f0c7a1e-0000-4000-8000-1234567890ab}, {uuid: 3F0C7A1E-0000-4000-8000-1234567890AB}]":                             "duplicate UUID 3f0c7a1e-",
		"hosts: [{mac: 52:54:00:12:34:56, values: {host.address: 10.0.0.1}}, {mac: 52:54:00:12:34:57, values: {host.address: 10.0.0.1}}]": "duplicate host.address 10.0.0.1",
		"hosts: [{mac: 52:54:00:12:34:56, values: {node.environment.A: secret}}]":                                                         "every user can read the kernel command line",
		"hosts: [{mac: 52:54:00:12:34:56, values: {report.url: 'http://u:secret@h/'}}]":                                                   "values.report.url: contains a password",
		"hosts: [{mac: 52:54:00:12:34:56, values: {proxy.http: 'http://u:secret@h'}}]":                                                    "values.proxy.http: contains a password",
		"hosts: [{mac: 52:54:00:12:34:56, args: ['inst.repo=http://u:secret@h/']}]":                                                       "the kernel argument \"inst.repo\": it contains a password",
		"hosts: [{mac: 52:54:00:12:34:56, values: {install.disk: /dev/sda}}]":                                                             "values.install.disk: cannot be set here",
		"hosts: [{mac: 52:54:00:12:34:56, values: {host.address: '1 firstboot.install.disk=x'}}]":                                         "cannot use the kernel argument",
	} {
		_, err := ParseHosts("hosts.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// YAML would read these names as numbers, booleans and dates.
func TestNamesOfHostsAreTakenAsTheyAreWritten(t *testing.T) {
	for _, name := range []string{"0123", "1e3", "no", "2024-01-01", "0017", "0o17", "0x1f", "0089", "1.50", "12345678901234567890123", "null1", "~"} {
		hosts, err := ParseHosts("hosts.yaml", []byte("hosts:\n  - mac: 52:54:00:00:00:01\n    name: "+name+"\n    values: {pool.blockSize: "+name+"}\n"))
		if name == "~" {
			if err == nil {
				t.Error("a host without a name was accepted")
			}
			continue
		}
		if err != nil || hosts[0].Name != name || hosts[0].Values["pool.blockSize"] != name {
			t.Errorf("%s: %+v, %v", name, hosts, err)
		}
	}
}

func TestAllProblemsOfTheListAreReportedInOrder(t *testing.T) {
	_, err := ParseHosts("hosts.yaml", []byte(`hosts:
  - mac: 52:54:00:00:00
    name: Web
  - name: b
  - mac: 52:54:00:00:00:02
    name: c
    valeus: {host.address: 10.0.0.1}
  - mac: 52:54:00:00:00:02
`))
	want := `hosts.yaml:2:5: mac: "52:54:00:00:00" is not a MAC address (such as 52:54:00:12:34:56)
hosts.yaml:3:5: name: must be in lower case: Calico converts node names to lower case (did you mean "web"?)
hosts.yaml:4:5: a host needs either a mac or a uuid (mac: 52:54:00:12:34:56)
hosts.yaml:7:5: unknown key "valeus" (a host has mac or uuid, name, values and args)
hosts.yaml:8:5: duplicate MAC address 52:54:00:00:00:02, first on line 5`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	many := "hosts:\n" + strings.Repeat("  - {x: 1}\n", 500)
	if _, err := ParseHosts("hosts.yaml", []byte(many)); err == nil || strings.Count(err.Error(), "\n") != maxProblems || !strings.Contains(err.Error(), "and 400 more") {
		t.Errorf("got %v", err)
	}
}

// Values are checked as on the host, for all hosts at once, with their lines.
func TestProblemsOfValuesHaveTheirLines(t *testing.T) {
	hosts, err := ParseHosts("hosts.yaml", []byte(`hosts:
  - mac: 52:54:00:00:00:01
    values:
      host.adress: 10.0.0.1
  - mac: 52:54:00:00:00:02
    values:
      pool.blockSize: "8"
`))
	if err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.Hosts = hosts
	_, err = Render(t.Context(), provisiontest.Load(t, provisiontest.Minimal), o)
	if err == nil || !strings.Contains(err.Error(), "hosts.yaml:4:7: ") || !strings.Contains(err.Error(), "hosts.yaml:7:7: pool.blockSize: ") {
		t.Errorf("got %v", err)
	}
}

func TestURLsWithAPasswordAreRefused(t *testing.T) {
	image := images.Remote{URL: "http://u:hunter@10.0.0.5/g.raw", SHA256: provisiontest.FakeDigest()}
	for name, change := range map[string]func(*Options){
		"url":      func(o *Options) { o.URL = "http://u:hunter@10.0.0.5" },
		"image":    func(o *Options) { o.Install = &Install{Image: image, Disk: "/dev/vda"} },
		"kernel":   func(o *Options) { o.Kernel = "http://u:hunter@10.0.0.5/vmlinuz" },
		"initrd":   func(o *Options) { o.Initrd = []string{"http://hunter@10.0.0.5/initrd"} },
		"matchbox": func(o *Options) { o.Ignition = "http://u:hunter@10.0.0.5" },
		"argument": func(o *Options) { o.Args = []string{"root=live:http://u:hunter@10.0.0.5/x"} },
	} {
		o := options(t)
		change(&o)
		_, err := Render(t.Context(), provisiontest.Load(t, provisiontest.Minimal), o)
		if err == nil || !strings.Contains(err.Error(), "contains a password") || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A query may be a token. The files that contain it are not for everyone.
func TestFilesWithATokenAreSecret(t *testing.T) {
	o := options(t)
	o.Install = &Install{Image: images.Remote{URL: "http://10.0.0.5/g.raw?token=hunter22&x=y", SHA256: provisiontest.FakeDigest()}, Disk: "/dev/vda"}
	o.Hosts[1].Values = map[string]string{"report.url": "https://10.0.0.5/?token=hunter33"}
	secrets := 0
	for path, f := range renderFiles(t, provisiontest.Load(t, provisiontest.Minimal), o) {
		if found := strings.Contains(string(f.Data), "hunter"); found && !f.Secret {
			t.Errorf("%s contains a token and has mode %o", path, f.mode())
		} else if found {
			secrets++
		}
	}
	if secrets < 6 { // scripts and profiles of three hosts
		t.Errorf("only %d files contain a token", secrets)
	}
}

// A file whose content stays may have become secret.
func TestWriteCorrectsTheModeOfAnUnchangedFile(t *testing.T) {
	dir := t.TempDir()
	for _, secret := range []bool{false, true} {
		if _, err := Write(dir, []File{{Path: "config/a", Data: []byte("x"), Secret: secret}}); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir + "/config/a"); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestWriteReplacesTheFilesOfAnInterruptedWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/hosts", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"firstboot-default.ipxe", "firstboot-mac-1.ipxe"} {
		if err := os.WriteFile(dir+"/hosts/"+name+newSuffix, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Write(dir, []File{{Path: "hosts/firstboot-default.ipxe", Data: []byte("whole")}}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir + "/hosts")
	if err != nil || len(entries) != 1 || entries[0].Name() != "firstboot-default.ipxe" {
		t.Errorf("%v, %v", entries, err)
	}
}

// A sync of each file takes half a minute for 1,000 hosts.
func TestFilesOfManyHostsAreSyncedTogether(t *testing.T) {
	var text strings.Builder
	text.WriteString("hosts:\n")
	for i := range 100 {
		fmt.Fprintf(&text, "  - {mac: 52:54:00:00:00:%02x, name: web-%d, values: {host.address: 10.1.0.%d}}\n", i, i, i)
	}
	hosts, err := ParseHosts("hosts.yaml", []byte(text.String()))
	if err != nil || len(hosts) != 100 {
		t.Fatal(len(hosts), err)
	}
	o := options(t)
	o.Hosts = hosts
	files, err := Render(t.Context(), provisiontest.Load(t, provisiontest.Minimal), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{2, 0} { // the second write changes nothing
		syncs, dir := 0, t.TempDir()
		if want == 0 {
			if _, err := Write(dir, files); err != nil {
				t.Fatal(err)
			}
		}
		result, err := write(dir, files, func(string) error {
			if syncs++; syncs == 1 {
				if _, err := os.Stat(dir + "/boot.ipxe"); err == nil {
					t.Error("a file had its name before the sync")
				}
			}
			return nil
		})
		if err != nil || syncs != want || len(result.Written)+len(result.Unchanged) != 406 {
			t.Errorf("%d syncs, want %d; %d written, %d unchanged, %v", syncs, want, len(result.Written), len(result.Unchanged), err)
		}
	}
}

func TestWriteUpdatesTheDirectory(t *testing.T) {
	dir, o := t.TempDir(), options(t)
	write := func(l *config.Loaded) Result {
		t.Helper()
		files, err := Render(t.Context(), l, o)
		if err != nil {
			t.Fatal(err)
		}
		result, err := Write(dir, files)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if result := write(provisiontest.Load(t, provisiontest.Minimal)); len(result.Written) != 14 {
		t.Errorf("%+v", result)
	}
	if result := write(provisiontest.Load(t, provisiontest.Minimal)); len(result.Unchanged) != 14 {
		t.Errorf("second write: %+v", result)
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts", "mine.ipxe"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Hosts = o.Hosts[1:]
	result := write(provisiontest.Load(t, provisiontest.Minimal+"node: {environment: {A: secret-text}}\n"))
	if d := cmp.Diff([]string{"hosts/" + macID + ".ipxe", "matchbox/groups/" + macID + ".json", "matchbox/profiles/" + macID + ".json", "matchbox/ignition/" + macID + ".ign"}, result.Removed); d != "" {
		t.Error(d)
	}
	// The previous configuration stays, for hosts that are booting. The new one
	// contains a secret, so not everyone may read it.
	configs, err := os.ReadDir(filepath.Join(dir, "config"))
	if err != nil || len(configs) != 2 {
		t.Errorf("%v, %v", configs, err)
	}
	modes := map[string]int{}
	for _, c := range configs {
		info, err := c.Info()
		if err != nil {
			t.Fatal(err)
		}
		modes[info.Mode().String()]++
	}
	if modes["-rw-r-----"] != 1 || modes["-rw-r--r--"] != 1 {
		t.Error(modes)
	}
}
