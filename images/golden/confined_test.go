package golden

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/stages"
)

// A link inside the image's bundle must not lead bake to files of the build machine: it
// writes artifacts there and removes those that are not named.
func TestBundleLinksDoNotLeadOutOfTheImage(t *testing.T) {
	bundle := t.TempDir()
	if _, err := artifact.WriteBundle(t.Context(), bundle, []artifact.Item{{Entry: artifact.Entry{Name: calicoctl}, Path: write(t, t.TempDir()+"/c", "one", 0o644)}}); err != nil {
		t.Fatal(err)
	}
	dir := stages.BundleDirs()[0]
	for _, link := range []string{dir + "/sha256", dir, "/usr/lib/firstboot"} {
		outside := t.TempDir()
		write(t, outside+"/"+digestOf("precious"), "precious", 0o644)
		write(t, outside+"/bundle/sha256/"+digestOf("precious"), "precious", 0o644)
		before := tree(t, outside)
		b := newBake(t, write(t, t.TempDir()+"/my.yaml", minimal, 0o644))
		b.Bundle = bundle
		path := b.Host.Root() + link
		if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, path); err != nil {
			t.Fatal(err)
		}
		p, err := b.Plan(t.Context())
		for i := 0; err == nil && i < len(p.Changes); i++ {
			err = p.Changes[i].Apply(t.Context())
		}
		if diff := cmp.Diff(before, tree(t, outside)); diff != "" {
			t.Errorf("%s: the build machine was changed (bake: %v):\n%s", link, err, diff)
		}
	}
}
