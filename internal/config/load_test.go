package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/secret"
)

// TestLaterSourcesWin sets each key in one source and in the sources before it.
// The value shows which source won.
func TestLaterSourcesWin(t *testing.T) {
	credentials := rootWith(t, map[string]string{CredentialName: "node: {asNumber: 7}\nfleet: {maxJoining: 7}\npool: {name: from-credential}\n"})
	root := rootWith(t, map[string]string{
		VendorDir + "/20-b.yaml": "docker: {restart: allow}\nnode: {asNumber: 2}\n",
		VendorDir + "/10-a.yaml": minimal + "docker: {restart: deny}\nnode: {asNumber: 1}\nsysctl: {vm.a: 1, vm.b: 1}\n",
		MainFile:                 "node: {asNumber: 3}\nsysctl: {vm.b: 3}\nhost: {name: from-main}\npreflight: {ignore: [clock, address]}\n",
		DropInDir + "/a.yaml":    "node: {asNumber: 4}\nhost: {address: 10.0.0.4}\n",
		DropInDir + "/b.yaml":    "node: {asNumber: 5}\npreflight: {ignore: [disk-space]}\n",
		DropInDir + "/.c.yaml":   "unknown: 1\n",
		CloudConfigFile:          "#cloud-config\nhostname: x\nfirstboot:\n  node: {asNumber: 6}\n  fleet: {maxJoining: 6}\n",
	})
	l := mustLoad(t, Options{
		Root: root, CredentialsDir: credentials,
		Cmdline: `quiet firstboot.pool.name=from-kernel firstboot.sysctl.vm.c=8 firstboot.etcd.endpoints=http://10.0.0.8:2379,http://10.0.0.9:2379`,
	})
	for _, c := range []struct{ path, value, origin string }{
		{"pool.cidr", `"10.213.0.0/16"`, VendorDir + "/10-a.yaml:4:9"},
		{"sysctl.vm.a", `"1"`, VendorDir + "/10-a.yaml:7:16"},
		{"docker.restart", `"allow"`, VendorDir + "/20-b.yaml:1:19"},
		{"sysctl.vm.b", `"3"`, MainFile + ":2:16"},
		{"host.name", `"from-main"`, MainFile + ":3:14"},
		{"host.address", `"10.0.0.4"`, DropInDir + "/a.yaml:2:17"},
		{"preflight.ignore", `["disk-space"]`, DropInDir + "/b.yaml:2:21"},
		{"fleet.maxJoining", `7`, "credential firstboot.config"},
		{"node.asNumber", `7`, "credential firstboot.config"},
		{"pool.name", `"from-kernel"`, "kernel command line"},
		{"sysctl.vm.c", `"8"`, "kernel command line"},
		{"etcd.endpoints", `["http://10.0.0.8:2379", "http://10.0.0.9:2379"]`, "kernel command line"},
		{"sysctl.net.ipv4.ip_forward", `"1"`, "default"},
		{"timeouts.download", `"10m0s"`, "default"},
	} {
		found := false
		for _, e := range l.Redacted() {
			if e.Key != c.path {
				continue
			}
			found = true
			if string(e.JSON) != c.value || e.Origin != c.origin {
				t.Errorf("%s = %s from %s, want %s from %s", c.path, e.JSON, e.Origin, c.value, c.origin)
			}
		}
		if !found {
			t.Errorf("%s is not shown", c.path)
		}
	}
}

// TestConfigFlagReplacesAllSources: with --config no other source is read.
func TestConfigFlagReplacesAllSources(t *testing.T) {
	root := rootWith(t, map[string]string{MainFile: "unknown: 1\n", "a.yaml": minimal, "b.yaml": "pool: {name: other}\n"})
	a, b := filepath.Join(root, "a.yaml"), filepath.Join(root, "b.yaml")
	l := mustLoad(t, Options{Root: root, Files: []string{a, b}, Cmdline: "firstboot.unknown=1"})
	if l.Config.Pool.Name != "other" || l.Origins["pool.name"] != b+":1:14" {
		t.Errorf("pool.name = %s from %s", l.Config.Pool.Name, l.Origins["pool.name"])
	}
	_, err := Load(t.Context(), Options{Files: []string{filepath.Join(root, "none.yaml")}})
	if _, invalid := IsInvalid(err); invalid || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestMissingConfigurationNamesTheFile: the problem names the main file.
func TestMissingConfigurationNamesTheFile(t *testing.T) {
	_, err := Load(t.Context(), Options{Root: t.TempDir()})
	want := `/etc/firstboot/config.yaml:1:1: etcd.endpoints: is required (such as etcd.endpoints: [http://10.0.0.1:2379]; no configuration file was found)
/etc/firstboot/config.yaml:1:1: pool.cidr: is required (such as pool.cidr: 10.213.0.0/16; no configuration file was found)`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestPipeIsNotRead: reading a pipe could block the boot forever.
func TestPipeIsNotRead(t *testing.T) {
	root := rootWith(t, map[string]string{"x": ""})
	if err := os.MkdirAll(filepath.Join(root, "etc/firstboot"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, MainFile), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := Load(context.Background(), Options{Root: root}); done <- err }()
	select {
	case err := <-done:
		if err == nil || err.Error() != "cannot read /etc/firstboot/config.yaml: not a regular file" {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("reading the pipe blocks")
	}
}

// TestLinksAreResolvedInTheRoot: an absolute link in an image refers to a file
// of the image.
func TestLinksAreResolvedInTheRoot(t *testing.T) {
	root := rootWith(t, map[string]string{"/usr/share/site.yaml": minimal, "/etc/firstboot/x": ""})
	if err := os.Symlink("/usr/share/site.yaml", filepath.Join(root, MainFile)); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, Options{Root: root})
	if err := os.MkdirAll(filepath.Join(root, DropInDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", filepath.Join(root, DropInDir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	_, err := Load(t.Context(), Options{Root: root})
	if err == nil || !strings.Contains(err.Error(), DropInDir+"/a.yaml: dangling symbolic link") {
		t.Errorf("a dangling link: %v", err)
	}
}

// TestWarnings lists values and files that are allowed but cause a warning.
func TestWarnings(t *testing.T) {
	root := rootWith(t, map[string]string{
		MainFile:               "etcd: {endpoints: [http://10.0.0.1:2379]}\npool: {cidr: 8.8.0.0/16, blockSize: 24}\n",
		DropInDir + "/a.yml":   "ignored",
		DropInDir + "/s.yaml":  "node: {environment: {TOKEN: x}}\n",
		DropInDir + "/w.yaml":  "fleet: {report: false}\n",
		DropInDir + "/ok.yaml": "host: {name: readable}\n",
	})
	for name, mode := range map[string]os.FileMode{"s.yaml": 0o644, "w.yaml": 0o600, "ok.yaml": 0o644} {
		if err := os.Chmod(filepath.Join(root, DropInDir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, w := range mustLoad(t, Options{Root: root}).Warnings {
		got = append(got, w.Error())
	}
	want := []string{
		`/etc/firstboot/config.d/a.yml: is not read (rename it to *.yaml)`,
		`default: node.image: "calico/node:v3.23.0" is pulled by tag and cannot be verified (use a digest, or node.url with node.sha256)`,
		`/etc/firstboot/config.yaml:2:14: pool.cidr: 8.8.0.0/16 is not a private range (internet hosts with these addresses become unreachable)`,
		`/etc/firstboot/config.yaml:2:37: pool.blockSize: 24 may be lost: eru-minions removes fields of the pool that it does not know (without this field Calico uses 26, and the field cannot be restored; 26 is safe)`,
		`/etc/firstboot/config.d/s.yaml: contains secrets and is readable by every user (chmod 600)`,
		`/etc/firstboot/config.d/w.yaml:1:17: fleet.report: has no effect in this version (it is reserved for firstboot fleet)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestFetchedConfiguration: single values of the command line override a
// configuration by URL, which is never used unverified.
func TestFetchedConfiguration(t *testing.T) {
	text := minimal + "node: {asNumber: 5}\n"
	right := sha256Hex(text)
	for _, c := range []struct {
		name, line, serves, err string
	}{
		{"verified", "firstboot.config=http://u:hunter2@boot/host.yaml firstboot.config.sha256=" + right + " firstboot.pool.name=mine", text, ""},
		{"no digest", "firstboot.config=http://boot/host.yaml", text, `kernel command line:1:1: firstboot.config: needs firstboot.config.sha256 or firstboot.config.signedBy (add firstboot.config.sha256=DIGEST or firstboot.config.signedBy=/PATH/OF/KEY)`},
		{"short digest", "a firstboot.config=http://boot/host.yaml firstboot.config.sha256=abc", text, `kernel command line:1:3: firstboot.config.sha256: must be 64 hexadecimal digits, not 3`},
		{"digest without URL", "firstboot.config.sha256=" + right, text, `firstboot.config has no URL`},
		{"scheme", "firstboot.config=tftp://boot/host.yaml firstboot.config.sha256=" + right, text, `firstboot.config: must begin with http://, https:// or file://, or be an absolute path`},
		{"other bytes", "firstboot.config=http://u:hunter2@boot/host.yaml firstboot.config.sha256=" + sampleDigest, text, `cannot use the configuration http://***@boot/host.yaml: its sha256 is ` + right + `, expected ` + sampleDigest},
		{"no answer", "firstboot.config=http://u:hunter2@boot/host.yaml firstboot.config.sha256=" + right, "", `cannot fetch the configuration http://***@boot/host.yaml: no answer`},
		{"invalid contents", "firstboot.config=http://boot/host.yaml firstboot.config.sha256=" + sha256Hex("pool: 1\n"), "pool: 1\n", `http://boot/host.yaml:1:7: pool: must be a mapping of keys`},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Load(t.Context(), Options{Root: t.TempDir(), Cmdline: c.line, Fetch: func(_ context.Context, u secret.URL) ([]byte, error) {
				if c.serves == "" {
					return nil, errors.New("no answer")
				}
				return []byte(c.serves), nil
			}})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("got  %v\nwant %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if l.Config.Node.ASNumber != 5 || l.Config.Pool.Name != "mine" || l.Origins["node.asNumber"] != "http://***@boot/host.yaml:5:18" {
				t.Errorf("AS %d, pool %s, from %s", l.Config.Node.ASNumber, l.Config.Pool.Name, l.Origins["node.asNumber"])
			}
		})
	}
	_, err := Load(t.Context(), Options{Root: t.TempDir(), Cmdline: "firstboot.config=http://boot/x firstboot.config.sha256=" + right})
	if err == nil || !strings.Contains(err.Error(), "does not use the network") {
		t.Errorf("without a fetcher: %v", err)
	}
}
