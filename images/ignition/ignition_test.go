package ignition

import (
	"strings"
	"testing"

	"github.com/coreos/butane/config/common"
	"github.com/coreos/butane/config/fcos/v1_4"
	"github.com/coreos/ignition/v2/config/v3_3"
	"github.com/coreos/ignition/v2/config/v3_3/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vincent-petithory/dataurl"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/engine"
	"github.com/projecteru2/firstboot/test/provisiontest"
	"github.com/projecteru2/firstboot/units"
)

var install = &images.Remote{URL: "http://10.0.0.5/firstboot?a=1&b=2", SHA256: provisiontest.FakeDigest()}

func render(t *testing.T, o Options) Rendered {
	t.Helper()
	r, err := Render(provisiontest.Load(t, provisiontest.WithSecret), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// find returns the file at path.
func find(t *testing.T, c types.Config, path string) types.File {
	t.Helper()
	for _, f := range c.Storage.Files {
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("%s is missing", path)
	return types.File{}
}

func TestConfigurationIsReadableByRootOnly(t *testing.T) {
	r := render(t, Options{Hostname: "web-1"})
	f := find(t, r.Config, config.MainFile)
	if f.Mode == nil || *f.Mode != 0o600 {
		t.Errorf("mode %v", f.Mode)
	}
	data, err := dataurl.DecodeString(*f.Contents.Source)
	if err != nil || string(data.Data) != string(provisiontest.Load(t, provisiontest.WithSecret).Explicit()) {
		t.Errorf("%q, %v", data, err)
	}
	if got := *find(t, r.Config, "/etc/hostname").Contents.Source; got != "data:,web-1%0A" {
		t.Error(got)
	}
	if len(r.Warnings) > 0 {
		t.Error(r.Warnings)
	}
}

func TestEveryRemoteResourceIsVerified(t *testing.T) {
	r := render(t, Options{Install: install})
	f := find(t, r.Config, "/usr/bin/firstboot")
	if *f.Mode != 0o755 || *f.Contents.Source != install.URL.Reveal() || *f.Contents.Verification.Hash != "sha256-"+provisiontest.FakeDigest() {
		t.Errorf("%+v", f)
	}
	if list := unverified(r.Config); list != nil {
		t.Error(list)
	}
	if len(r.Config.Systemd.Units) != 6 || len(r.Config.Storage.Links) != 2 {
		t.Errorf("units %v, links %v", r.Config.Systemd.Units, r.Config.Storage.Links)
	}
	for _, u := range r.Config.Systemd.Units {
		if enabled := u.Enabled != nil && *u.Enabled; enabled != (units.Enabled()[u.Name] != "") {
			t.Errorf("%+v", u)
		}
	}
}

// theirs is an operator's existing config.
const theirs = `{
  "ignition": {"version": "3.1.0", "config": {"merge": [{"source": "https://u:secret@h/more.ign?token=secret"}]}},
  "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 AAAA"]}]},
  "storage": {
    "disks": [{"device": "/dev/vda", "partitions": [{"label": "d", "sizeMiB": 10, "number": 9}]}],
    "files": [
      {"path": "/etc/motd", "mode": 420, "contents": {"source": "data:;base64,aGVsbG8Kd29ybGQK"}},
      {"path": "/etc/odd", "contents": {"source": "data:;base64,AAEC/w=="}},
      {"path": "/etc/blank", "contents": {"source": "data:,a%0A%20%20%20%0Ab%0A"}},
      {"path": "/etc/empty", "contents": {"source": "data:,"}},
      {"path": "/etc/firstboot/config.yaml", "user": {"id": 1000}, "append": [{"source": "data:,x"}], "contents": {"source": "data:,old"}},
      {"path": "/etc/remote", "contents": {"source": "http://h/x", "httpHeaders": [{"name": "A", "value": "b"}]}}
    ]
  },
  "systemd": {"units": [{"name": "x.service", "mask": true}]}
}`

func TestMergeReplacesFilesWithTheSamePath(t *testing.T) {
	r := render(t, Options{Install: install, Merge: []byte(theirs)})
	if r.Config.Ignition.Version != "3.3.0" || r.Config.Passwd.Users[0].Name != "core" {
		t.Errorf("%+v", r.Config)
	}
	if d := cmp.Diff(find(t, render(t, Options{}).Config, config.MainFile), find(t, r.Config, config.MainFile)); d != "" {
		t.Error("the two files are combined: " + d)
	}
	all := strings.Join(r.Warnings, "\n")
	for _, want := range []string{"ignition.config.merge is fetched from https://***@h/more.ign?*** but not verified", "config.yaml is in both configs", "/etc/remote is fetched from http://h/x but not verified"} {
		if !strings.Contains(all, want) {
			t.Errorf("warning %q is missing in %s", want, all)
		}
	}
	if strings.Contains(all, "secret") {
		t.Error("a secret is shown: " + all)
	}
	if _, _, err := v3_3.Parse(r.JSON); err != nil {
		t.Error(err)
	}
}

func TestInvalidMergeIsRefused(t *testing.T) {
	for data, want := range map[string]string{
		`{"ignition": {"version": "3.9.0"}}`: `cannot merge an Ignition config of spec "3.9.0"`,
		`{"ignition": {"version": "2.2.0"}}`: `cannot merge an Ignition config of spec "2.2.0"`,
		`{`:                                  "cannot merge the Ignition config",
		``:                                   "cannot merge the Ignition config",
		`{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "x"}]}}`: "error at $.storage.files.0.path, line 1 col 67: path not absolute",
	} {
		_, err := Render(provisiontest.Load(t, provisiontest.WithSecret), Options{Merge: []byte(data)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", data, err, want)
		}
	}
}

func TestMergeThatKeepsFirstbootFromRunningIsRefused(t *testing.T) {
	for what, want := range map[string]string{
		`"systemd": {"units": [{"name": "firstboot.service", "mask": true}]}`:                                                     "it masks firstboot.service",
		`"systemd": {"units": [{"name": "a.service", "mask": true}, {"name": "firstboot-complete.target", "mask": true}]}`:        "it masks firstboot-complete.target",
		`"systemd": {"units": [{"name": "firstboot.service", "contents": "[Service]\nExecStart=/bin/true\n"}]}`:                   "it replaces the unit firstboot.service",
		`"storage": {"links": [{"path": "/etc/systemd/system/firstboot.service", "target": "/dev/null"}]}`:                        "it overrides /etc/systemd/system/firstboot.service",
		`"storage": {"files": [{"path": "/usr/bin/firstboot", "overwrite": true, "contents": {"source": "data:,"}}]}`:             "it overrides /usr/bin/firstboot",
		`"storage": {"files": [{"path": "/etc/systemd/system-preset/10-a.preset", "contents": {"source": "data:,disable%20*"}}]}`: "10-a.preset disables firstboot",
		`"kernelArguments": {"shouldExist": ["quiet", "systemd.mask=firstboot.service"]}`:                                         "the kernel argument systemd.mask=firstboot.service",

		`"systemd": {"units": [{"name": "docker.service", "mask": true}]}`:                                                     "it masks docker.service",
		`"systemd": {"units": [{"name": "docker.socket", "mask": true}]}`:                                                      "it masks docker.socket",
		`"systemd": {"units": [{"name": "eru-minions.service", "mask": true}]}`:                                                "it masks eru-minions.service",
		`"kernelArguments": {"shouldExist": ["systemd.mask=docker.service"]}`:                                                  "the kernel argument systemd.mask=docker.service",
		`"storage": {"links": [{"path": "/etc/systemd/system/docker.service", "target": "/dev/null"}]}`:                        "/etc/systemd/system/docker.service masks docker.service",
		`"storage": {"files": [{"path": "/etc/systemd/system/containerd.service"}]}`:                                           "/etc/systemd/system/containerd.service masks containerd.service",
		`"storage": {"files": [{"path": "/run/systemd/system/calico-node.service", "contents": {"source": "data:;base64,"}}]}`: "masks calico-node.service",
		`"storage": {"files": [{"path": "/etc/firstboot", "contents": {"source": "data:,x"}}]}`:                                "/etc/firstboot must be a directory",
		`"storage": {"links": [{"path": "/etc/firstboot", "target": "/srv/firstboot"}]}`:                                       "/etc/firstboot must be a directory",
		`"storage": {"files": [{"path": "/etc", "contents": {"source": "data:,x"}}]}`:                                          "/etc must be a directory",
		`"storage": {"files": [{"path": "/etc/firstboot/config.d", "contents": {"source": "data:,x"}}]}`:                       "/etc/firstboot/config.d must be a directory",
		`"storage": {"files": [{"path": "/var/lib/firstboot", "contents": {"source": "data:,x"}}]}`:                            "/var/lib/firstboot must be a directory",
		`"storage": {"files": [{"path": "/etc/firstboot/config.yaml/x", "contents": {"source": "data:,x"}}]}`:                  "/etc/firstboot/config.yaml must be a file",
	} {
		_, err := Render(provisiontest.Load(t, provisiontest.Minimal), Options{Merge: []byte(`{"ignition": {"version": "3.3.0"}, ` + what + "}")})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(engine.Hint(err), "--merge") {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	replace := `{"ignition": {"version": "3.3.0", "config": {"replace": {"source": "http://h/x"}}}}`
	if _, err := Render(provisiontest.Load(t, provisiontest.Minimal), Options{Merge: []byte(replace)}); err == nil || !strings.Contains(err.Error(), "replaces the whole config") {
		t.Errorf("got %v", err)
	}
}

func TestMergeThatDoesNotStopFirstbootIsAccepted(t *testing.T) {
	before := render(t, Options{Install: install})
	for name, merge := range map[string]string{
		"an earlier rendering": string(before.JSON),
		"a later preset":       `{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "/etc/systemd/system-preset/99-a.preset", "contents": {"source": "data:,disable%20*"}}]}}`,
		"an enabling preset":   `{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "/etc/systemd/system-preset/10-a.preset", "contents": {"source": "data:,enable%20firstboot*%0Adisable%20*"}}]}}`,
		"a unit of Docker":     `{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "/etc/systemd/system/docker.service", "contents": {"source": "data:,x"}}, {"path": "/srv/docker.service"}], "directories": [{"path": "/etc/firstboot"}]}}`,
		"a drop-in":            `{"ignition": {"version": "3.3.0"}, "systemd": {"units": [{"name": "firstboot.service", "dropins": [{"name": "a.conf", "contents": "[Unit]\nAfter=x.service\n"}]}]}}`,
	} {
		if _, err := Render(provisiontest.Load(t, provisiontest.WithSecret), Options{Install: install, Merge: []byte(merge)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := render(t, Options{Merge: []byte(`{"ignition": {"version": "3.3.0"}, 
		"storage": {"files": [{"path": "/etc/firstboot/config.d/9.yaml", "contents": {"source": "data:,"}}]}}`)})
	all := strings.Join(r.Warnings, "\n")
	if want := "/etc/firstboot/config.d/9.yaml overrides this configuration"; !strings.Contains(all, want) {
		t.Errorf("warning %q is missing in %s", want, all)
	}
}

func TestInvalidInstallIsRefused(t *testing.T) {
	for want, from := range map[string]images.Remote{
		"without --sha256":           {URL: "http://h/f"},
		"cannot install a .deb file": {URL: "http://h/f.deb", SHA256: provisiontest.FakeDigest()},
		"must begin with http://":    {URL: "s3://h/f", SHA256: provisiontest.FakeDigest()},
	} {
		if _, err := Render(provisiontest.Load(t, provisiontest.WithSecret), Options{Install: &from}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Butane's own translator produces the same config.
func TestButaneTranslatesToTheSameConfig(t *testing.T) {
	for name, o := range map[string]Options{"plain": {}, "install": {Install: install}, "merged": {Merge: []byte(theirs), Install: install, Hostname: "a"}} {
		t.Run(name, func(t *testing.T) {
			r := render(t, o)
			yaml, err := r.Butane()
			if err != nil {
				t.Fatal(err)
			}
			if name != "merged" && strings.Contains(string(yaml), "data:,") { // the base has texts that YAML cannot hold inline
				t.Errorf("a file is written as a data URL, which nobody can edit:\n%s", yaml)
			}
			if !strings.Contains(string(yaml), "inline: |\n") {
				t.Errorf("no file is written as a block of text:\n%s", yaml)
			}
			options := common.TranslateBytesOptions{}
			options.NoResourceAutoCompression = true
			data, found, err := v1_4.ToIgn3_3Bytes(yaml, options)
			if err != nil || len(found.Entries) > 0 {
				t.Fatalf("%v %v\n%s", err, found, yaml)
			}
			got, _, err := v3_3.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(decoded(t, r.Config), decoded(t, got)); d != "" {
				t.Errorf("%s\n%s", d, yaml)
			}
		})
	}
}

// decoded returns the config with its data URLs decoded, for comparison.
func decoded(t *testing.T, c types.Config) types.Config {
	t.Helper()
	for i, f := range c.Storage.Files {
		if s := *f.Contents.Source; strings.HasPrefix(s, "data:") {
			u, err := dataurl.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			plain := string(u.Data)
			c.Storage.Files[i].Contents.Source, c.Storage.Files[i].Contents.Compression = &plain, nil
		}
	}
	return c
}

// Ignition's own translation of older specs gives the same result.
func TestOlderSpecsAreReadLikeIgnition(t *testing.T) {
	clevis := `{"ignition": {"version": "3.2.0"}, "storage": {"luks": [{"name": "d", "device": "/dev/vda", "clevis": {"custom": {"pin": "tpm2", "config": "b", "needsNetwork": true}}}],
		"disks": [{"device": "/dev/vda", "partitions": [{"number": 1, "resize": true}]}], "filesystems": [{"device": "/dev/vda1", "format": "ext4", "path": "/x"}]}}`
	contents := `{"ignition": {"version": "3.0.0"}, "storage": {"files": [{"path": "/a", "contents": {"source": "data:,%22version%22:%20%223.1.0%22"}}, {"path": "/b", "append": [{"source": "data:,x"}]}],
		"directories": [{"path": "/d", "mode": 493}], "links": [{"path": "/l", "target": "/a", "hard": true}], "raid": [{"name": "r", "level": "raid1", "devices": ["/dev/a", "/dev/b"]}]},
		"systemd": {"units": [{"name": "a.service", "contents": "[Unit]\n# \"version\": \"3.1.0\"\n", "dropins": [{"name": "a.conf", "contents": ""}]}]}}`
	for _, data := range []string{theirs, clevis, contents} {
		want, found, err := v3_3.ParseCompatibleVersion([]byte(data))
		if err != nil {
			t.Fatal(err, found)
		}
		got, _, err := parse([]byte(data))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	}
}
