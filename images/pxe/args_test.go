package pxe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/secret"
	"github.com/projecteru2/firstboot/test/provisiontest"
)

// Arguments that set values are checked like values, wherever they are given.
func TestArgumentsThatSetValuesAreChecked(t *testing.T) {
	const host = "hosts: [{mac: 52:54:00:12:34:56, name: web-1, values: {host.address: 10.0.0.11}, args: ['%']}]"
	for arg, want := range map[string]string{
		"firstboot.node.environment.A=hunter":                   "may be a secret",
		"firstboot.minions.environment.A=hunter":                "may be a secret",
		"firstboot.report.url=http://u:hunter@h/":               "contains a password",
		"firstboot.proxy.http=http://u:hunter@h":                "contains a password",
		"firstboot.host.name=other":                             "cannot be set here",
		"firstboot.config=http://h/other.yaml":                  "cannot be set here",
		"firstboot.config.sha256=hunter":                        "cannot be set here",
		"firstboot.install.wipe=true":                           "cannot be set here",
		"firstboot.host.address=10.0.0.12":                      "set", // it has 10.0.0.11
		"firstboot.pool.name":                                   "needs a value",
		"firstboot.=hunter":                                     "needs a key",
		"systemd.hostname=other":                                "override the name",
		"systemd.set_credential=firstboot.config:hunter":        "override the configuration",
		"systemd.set_credential_binary=firstboot.config:hunter": "override the configuration",
		"--":              "the kernel ignores the arguments after it",
		"a=${net0/macc}":  "iPXE replaces ${…}",
		"a=${":            "iPXE replaces ${…}",
		"a=${HOME}":       "iPXE replaces ${…}",
		"a=${mac}${base}": "iPXE replaces ${…}",
		"firstboot.report.url=http://h/${net0/${mac}}":                        "iPXE replaces ${…}",
		"firstboot.pool.blockSize=8":                                          "pool.blockSize: ",
		"firstboot.hots.address=10.0.0.1":                                     "did you mean",
		"firstboot.sysctl.net.core.somaxconn=\"1\" firstboot.config=http://h": "cannot be quoted",
	} {
		check := func(where string, o Options, err error) {
			t.Helper()
			if err == nil {
				_, err = Render(t.Context(), provisiontest.Load(t, provisiontest.Minimal), o)
			}
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter") {
				t.Errorf("%s %s: %v, want %q", where, arg, err, want)
			}
		}
		o := options(t)
		o.Args = append(o.Args, arg)
		check("--arg", o, nil)
		var err error
		o = options(t)
		o.Hosts, err = ParseHosts("hosts.yaml", []byte(strings.Replace(host, "%", arg, 1)))
		check("args", o, err)
	}
	o := options(t)
	o.Args = []string{"firstboot.pool.name=a", "firstboot.pool.name=b"}
	if _, err := Render(t.Context(), provisiontest.Load(t, provisiontest.Minimal), o); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("a duplicate --arg: %v", err)
	}
}

// Valid arguments reach the host, and iPXE's settings stay as they are.
func TestArgumentsThatSetValuesAreUsed(t *testing.T) {
	hosts, err := ParseHosts("hosts.yaml", []byte("hosts: [{mac: 52:54:00:ab:34:56, args: ['firstboot.host.address=10.0.0.11', 'id=${net0/mac:hexhyp}-${uuid}-${smbios/asset}']}]"))
	if err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.Hosts, o.Args = hosts, []string{"firstboot.sysctl.net.core.somaxconn=1024", "id=${mac}$x"}
	args := kernelArgs(t, renderFiles(t, provisiontest.Load(t, provisiontest.Minimal), o)["hosts/"+macID+".ipxe"])
	all := " " + strings.Join(args, " ") + " "
	for _, want := range []string{"firstboot.host.address=10.0.0.11", "firstboot.sysctl.net.core.somaxconn=1024", "id=${mac}$x", "id=${net0/mac:hexhyp}-${uuid}-${smbios/asset}"} {
		if strings.Count(all, " "+want+" ") != 1 {
			t.Errorf("%q is not once in %s", want, all)
		}
	}
}

// The path of report.url may be a secret, such as that of a chat service.
func TestFilesWithTheSecretPathOfAReportAreSecret(t *testing.T) {
	for name, c := range map[string]struct {
		value  string
		secret bool
	}{
		"token in the path":  {"https://hooks.example/T0/hunter-2secret", true},
		"token in a query":   {"https://hooks.example/?token=hunter", true},
		"a name of the host": {"http://10.0.0.5/done/${net0/mac}", false},
	} {
		for where, change := range map[string]func(*Options){
			"values": func(o *Options) { o.Hosts[1].Values = map[string]string{"report.url": c.value} },
			"--arg":  func(o *Options) { o.Args, o.Hosts = []string{"firstboot.report.url=" + c.value}, nil },
			"args": func(o *Options) {
				o.Hosts[1].Args = []string{"inst.report=" + strings.Replace(c.value, "/T0/hunter-2", "/T0/?hunter-2", 1)}
			},
		} {
			o := options(t)
			o.Hosts[0].Values = nil
			change(&o)
			found := false
			for path, f := range renderFiles(t, provisiontest.Load(t, provisiontest.Minimal), o) {
				if strings.Contains(path, "matchbox/ignition") {
					continue // secret with any report.url
				}
				if has := strings.Contains(string(f.Data), "hunter"); has != f.Secret {
					t.Errorf("%s in %s: %s is secret: %v", name, where, path, f.Secret)
				} else if has {
					found = true
				}
			}
			if found != c.secret {
				t.Errorf("%s in %s: a secret file: %v, want %v", name, where, found, c.secret)
			}
		}
	}
}

func TestURLOfTheDirectoryHasNoQueryAndAValidPort(t *testing.T) {
	for _, url := range []string{
		"http://10.0.0.5/?a=1", "http://10.0.0.5?", "http://10.0.0.5/#a", "http://10.0.0.5:0", "http://10.0.0.5:65536/", "http://10.0.0.5:", "http://[fe80::1]:99999/", "http://10.0.0.5:80a/",
	} {
		for flag, change := range map[string]func(*Options){
			"--url": func(o *Options) { o.URL = secret.URL(url) }, "--matchbox": func(o *Options) { o.Ignition = secret.URL(url) },
		} {
			o := options(t)
			change(&o)
			if err := o.Check(); err == nil || !strings.Contains(err.Error(), "cannot use "+flag) {
				t.Errorf("%s %s: %v", flag, url, err)
			}
		}
	}
	for _, url := range []string{"http://10.0.0.5", "http://10.0.0.5:65535/a", "http://[fd00::1]/", "http://[fd00::1]:8080/a/"} {
		o := options(t)
		o.URL = secret.URL(url)
		if err := o.Check(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestAddressesThatIdentifyNoHostAreRefused(t *testing.T) {
	for key, want := range map[string]string{
		"mac: 00:00:00:00:00:00":                     "is not the address of an interface",
		"mac: ff:ff:ff:ff:ff:ff":                     "multicast or broadcast",
		"mac: 01:00:5e:00:00:01":                     "multicast or broadcast",
		"mac: 02:00:5e:10:00:00:00:01":               "is not a MAC address",
		"uuid: 00000000-0000-0000-0000-000000000000": "is not unique",
		"uuid: FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF": "is not unique",
		"uuid: 03000200-0400-0500-0006-000700080009": "is not unique",
	} {
		if _, err := ParseHosts("hosts.yaml", []byte("hosts: [{"+key+"}]")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", key, err, want)
		}
	}
}

// A full disk, or a sync that fails, leaves no temporary files.
func TestFailedWriteLeavesNoTemporaryFiles(t *testing.T) {
	full := errors.New("no space left on device")
	files := []File{{Path: "hosts/a", Data: []byte("a")}, {Path: "hosts/b", Data: []byte("b")}, {Path: "matchbox/groups/c", Data: []byte("c")}}
	for name, c := range map[string]struct {
		sync  error
		spoil func(dir string) error
	}{
		"the sync fails": {full, func(string) error { return nil }},
		"a write fails": {nil, func(dir string) error {
			return os.MkdirAll(filepath.Join(dir, "matchbox/groups/c"+newSuffix, "x"), 0o755)
		}},
		"a rename fails":     {nil, func(dir string) error { return os.MkdirAll(filepath.Join(dir, "hosts/b", "x"), 0o755) }},
		"a directory exists": {nil, func(dir string) error { return os.WriteFile(filepath.Join(dir, "matchbox"), nil, 0o600) }},
	} {
		dir := t.TempDir()
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := write(dir, files, func(string) error { return c.sync }); err == nil {
			t.Errorf("%s: no error", name)
		}
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if strings.HasSuffix(path, newSuffix) && !d.IsDir() {
				t.Errorf("%s: %s is left", name, path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
