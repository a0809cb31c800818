package golden

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/stages"
	"github.com/projecteru2/firstboot/test/powercut"
)

// temporary matches the names of files that an interrupted write leaves. Nothing reads
// them, and the next write of the same file removes them.
var temporary = regexp.MustCompile(`/\.[^/]+[0-9]{6,}$`)

// written returns the files below root without the temporary ones.
func written(t *testing.T, root string) map[string]string {
	t.Helper()
	all := tree(t, root)
	maps.DeleteFunc(all, func(path, _ string) bool { return temporary.MatchString(path) })
	return all
}

// After a power cut the next bake completes the image, whatever was lost.
func TestBakeIsCompletedAfterEveryPowerCut(t *testing.T) {
	files := t.TempDir()
	program := write(t, files+"/firstboot", executable(t, runtime.GOARCH), 0o755)
	conf := write(t, files+"/my.yaml", minimal, 0o600)
	bundle := files + "/bundle"
	if _, err := Pack(t.Context(), bundle, []artifact.Item{{Entry: artifact.Entry{Name: calicoctl, Version: "v3.23.0"}, Path: program}}); err != nil {
		t.Fatal(err)
	}
	start := func(root string, options ...host.Option) *Bake {
		b := newBake(t, conf)
		b.Host, b.options, b.Binary, b.Bundle = host.New(root, append(options, host.Offline())...), options, program, bundle
		b.Files = func(*config.Config, *host.Host) ([]File, error) {
			return []File{{Path: "/etc/docker/daemon.json", Data: []byte("{}\n"), Mode: 0o644}}, nil
		}
		return b
	}
	root := newBake(t).Host.Root()
	var want map[string]string
	powercut.Test(t, root, nil, func(record host.Option) {
		bake(t, start(root, record))
		want = written(t, root)
	}, func(t *testing.T, root string) {
		// A unit that is enabled finds its program.
		h := host.New(root)
		if h.Readlink("/etc/systemd/system/multi-user.target.wants/firstboot.service") != "" && !h.Exists(BinaryPath) {
			t.Error("the unit is enabled without its program")
		}
		bake(t, start(root))
		if d := cmp.Diff(want, written(t, root)); d != "" {
			t.Error(d)
		}
	})
}

// After a power cut each configuration file has its old or its new text, and a digest
// only if the bundle has the artifact. The next bundle --lock --write completes both.
func TestLockIsCompletedAfterEveryPowerCut(t *testing.T) {
	files := t.TempDir()
	items := []artifact.Item{
		{Entry: artifact.Entry{Name: calicoctl}, Path: write(t, files+"/calicoctl", "one", 0o644)},
		{Entry: artifact.Entry{Name: minions}, Path: write(t, files+"/minions", "three", 0o644)},
	}
	root := t.TempDir()
	write(t, root+"/my.yaml", minimal+"calicoctl: {url: \"http://10.0.0.5/calicoctl\"} # a comment\n", 0o640)
	write(t, root+"/minions.yaml", "minions: {url: \"http://10.0.0.5/minions.rpm\"}\n", 0o600)
	lock := func(t *testing.T, root string, options ...host.Option) {
		t.Helper()
		names := []string{root + "/my.yaml", root + "/minions.yaml"}
		loaded, err := config.Load(t.Context(), config.Options{Root: t.TempDir(), Files: names, NoCmdline: true, Unpinned: true})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Pack(t.Context(), root+"/bundle", items, options...)
		if err != nil {
			t.Fatal(err)
		}
		_, locked, err := Lock(loaded, Artifacts(loaded.Config, (&stages.Env{Config: loaded.Config}).References()), b, os.ReadFile)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range locked {
			if err := Rewrite(f.Name, f.Text, options...); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := written(t, root)
	var want map[string]string
	powercut.Test(t, root, nil, func(record host.Option) {
		lock(t, root, record)
		want = written(t, root)
		if strings.Count(want["/my.yaml"]+want["/minions.yaml"], "sha256") != 2 {
			t.Fatal(want)
		}
	}, func(t *testing.T, root string) {
		now := written(t, root)
		for _, name := range []string{"/my.yaml", "/minions.yaml"} {
			switch {
			case now[name] == before[name]:
			case now[name] != want[name]:
				t.Errorf("%s is damaged: %q", name, now[name])
			case now["/bundle/manifest.json"] != want["/bundle/manifest.json"]:
				t.Errorf("%s has a digest that the bundle has not", name)
			}
		}
		lock(t, root)
		if d := cmp.Diff(want, written(t, root)); d != "" {
			t.Error(d)
		}
		if info, err := os.Stat(filepath.Join(root, "my.yaml")); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	})
}
