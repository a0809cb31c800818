package golden

import (
	"os"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/artifact"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/stages"
)

// missingIn returns the names of the artifacts that a bake warns of.
func missingIn(t *testing.T, b *Bake) string {
	t.Helper()
	p, err := b.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, w := range p.Warnings {
		if name, _, ok := strings.Cut(w, " is neither in the image nor in a bundle, "); ok && strings.Contains(w, "artifact-missing") {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func TestBakeWarnsOfArtifactsThatHostsHaveNoSourceFor(t *testing.T) {
	my := write(t, t.TempDir()+"/my.yaml", minimal, 0o644)
	bundle := t.TempDir()
	if _, err := artifact.WriteBundle(t.Context(), bundle, []artifact.Item{{Entry: artifact.Entry{Name: minions}, Path: write(t, t.TempDir()+"/rpm", "rpm", 0o644)}}); err != nil {
		t.Fatal(err)
	}
	digest := digestOf("archive")
	for name, c := range map[string]struct {
		arrange func(*Bake)
		want    string
	}{
		"the required keys only": {func(*Bake) {}, "calicoctl eru-minions"},
		"an installed calicoctl": {func(b *Bake) { write(t, b.Host.Root()+"/usr/bin/calicoctl", "x", 0o755) }, "eru-minions"},
		"an installed package":   {func(b *Bake) { write(t, b.Host.Root()+"/usr/bin/eru-minions", "x", 0o755) }, "calicoctl"},
		"a bundle to copy":       {func(b *Bake) { b.Bundle = bundle }, "calicoctl"},
		"no configuration":       {func(b *Bake) { b.Config, b.NoConfig = nil, true }, ""},
		"an image without a url": {func(b *Bake) {
			b.Config = append(b.Config, write(t, t.TempDir()+"/n.yaml", "node: {sha256: "+digest+"}\n", 0o644))
			b.NoBundle = true
		}, "calicoctl node-image eru-minions"},
		"the image's own bundle": {func(b *Bake) {
			if err := os.CopyFS(b.Host.Root()+stages.BundleDirs()[1], os.DirFS(bundle)); err != nil {
				t.Fatal(err)
			}
		}, "calicoctl"},
	} {
		b := newBake(t, my)
		c.arrange(b)
		if got := missingIn(t, b); got != c.want {
			t.Errorf("%s: warnings of %q, want %q", name, got, c.want)
		}
	}
}

func TestSourceWarningNamesArtifactAndKey(t *testing.T) {
	c := config.Default()
	c.Minions.URL = "http://10.0.0.5/eru-minions.rpm"
	got := SourceWarnings(Artifacts(c, (&stages.Env{Config: c}).References()), func(Artifact) bool { return false })
	if len(got) != 1 || !strings.HasPrefix(got[0], "calicoctl has no source: calicoctl.url is not set") {
		t.Errorf("got %q", got)
	}
}
