package golden

import (
	"os"
	"testing"
)

func TestRewriteKeepsALinkAndTheModeOfItsTarget(t *testing.T) {
	dir := t.TempDir()
	target, link := write(t, dir+"/real.yaml", "old", 0o640), dir+"/link.yaml"
	if err := os.Symlink("real.yaml", link); err != nil {
		t.Fatal(err)
	}
	if err := Rewrite(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != "real.yaml" {
		t.Errorf("the link became %q, %v", to, err)
	}
	data, err := os.ReadFile(target)
	info, statErr := os.Stat(target)
	if err != nil || statErr != nil || string(data) != "new" || info.Mode().Perm() != 0o640 {
		t.Errorf("the target has %q and mode %v; %v, %v", data, info.Mode(), err, statErr)
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	if err := Rewrite(link, []byte("new")); err == nil {
		t.Error("a dangling link was followed")
	}
}
