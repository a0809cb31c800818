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
	hosts, err := ParseHosts([]byte(hostList))
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
		"cannot use --signed-by \"site.asc\"": func(o *Options) { o.SignedBy = "site.asc" },
		"cannot use --signed-by \"/a b\"":     func(o *Options) { o.SignedBy = "/a b" },
		"the limit is 2047":                   func(o *Options) { o.Args = []string{"a=" + strings.Repeat("x", 2000)} },
		"cannot use the values of web-1: ":    func(o *Options) { o.Hosts[0].Values = map[string]string{"host.adress": "10.0.0.1"} },
		"host.name: must be in lower case":    func(o *Options) { o.Hosts[0].Name = "Web" },
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
		"hosts: [{name: a}]":                      "host 1: needs either a mac or a uuid",
		"hosts: [{mac: 52:54:00:12:34}]":          "mac \"52:54:00:12:34\" is not a MAC address",
		"hosts: [{uuid: 1-2}]":                    "uuid \"1-2\" is not a UUID",
		"hosts: [{mac: 52:54:00:12:34:56, x: 1}]": "line 1, column 34",
		"hosts: {": "cannot read the list of hosts",
		"hosts: [{mac: 52:54:00:12:34:56}, {mac: 52-54-00-12-34-56}]":                             "host 2: duplicate mac-52-54-00-12-34-56",
		"hosts: [{mac: 52:54:00:12:34:56, name: a}, {mac: 52:54:00:12:34:57, name: a}]":           "host 2: duplicate name a",
		"hosts: [{mac: 52:54:00:12:34:56, values: {node.environment.A: secret}}]":                 "every user can read the kernel command line",
		"hosts: [{mac: 52:54:00:12:34:56, values: {install.disk: /dev/sda}}]":                     "cannot set install.disk in the list of hosts",
		"hosts: [{mac: 52:54:00:12:34:56, values: {host.address: '1 firstboot.install.disk=x'}}]": "cannot use the kernel argument",
	} {
		_, err := ParseHosts([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
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
