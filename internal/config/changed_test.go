package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestChangedKeys: a value from a source that cannot be read now is not a
// change.
func TestChangedKeys(t *testing.T) {
	credentials := rootWith(t, map[string]string{CredentialName: "node: {asNumber: 7, environment: {TOKEN: hunter2}}\n"})
	first := map[string]string{MainFile: minimal, DropInDir + "/a.yaml": "pool: {name: aa}\nnode: {environment: {A: a}}\nsysctl: {vm.a: 1}\n"}
	with := func(path, text string) map[string]string {
		files := map[string]string{}
		for p, s := range first {
			files[p] = s
		}
		files[path] = text
		return files
	}
	saved := mustLoad(t, Options{Root: rootWith(t, first), CredentialsDir: credentials, Cmdline: "firstboot.fleet.maxJoining=3"})
	removed := rootWith(t, first)
	if err := os.Remove(filepath.Join(removed, DropInDir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		o    Options
		want []string
	}{
		{"nothing edited", Options{Root: rootWith(t, first), CredentialsDir: credentials, Cmdline: "firstboot.fleet.maxJoining=3"}, nil},
		{"comments edited", Options{Root: rootWith(t, with(MainFile, "# hello\n\n"+minimal)), CredentialsDir: credentials, Cmdline: "firstboot.fleet.maxJoining=3"}, nil},
		{"credential and command line not readable", Options{Root: rootWith(t, first)}, nil},
		{"value edited", Options{Root: rootWith(t, with(MainFile, minimal+"  blockSize: 27\n"))}, []string{"pool.blockSize"}},
		{"key added", Options{Root: rootWith(t, with(DropInDir+"/b.yaml", "sysctl: {vm.b: 1}\n"))}, []string{"sysctl.vm.b"}},
		{"file removed", Options{Root: removed}, []string{"node.environment.A", "pool.name", "sysctl.vm.a"}},
		{"command line edited", Options{Root: rootWith(t, first), Cmdline: "firstboot.fleet.maxJoining=4"}, []string{"fleet.maxJoining"}},
	} {
		got, err := ChangedKeys(t.Context(), c.o, saved)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if _, err := ChangedKeys(t.Context(), Options{Root: rootWith(t, with(MainFile, "pol: 1\n"))}, saved); err == nil {
		t.Error("an invalid file is not reported")
	}
}

// TestNetworkName: the Docker network has the pool's name unless pool.network is
// set.
func TestNetworkName(t *testing.T) {
	for _, c := range []struct {
		pool Pool
		want string
	}{{Pool{Name: "a"}, "a"}, {Pool{Name: "a", Network: "b"}, "b"}} {
		if got := c.pool.NetworkName(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.pool, got, c.want)
		}
	}
}
