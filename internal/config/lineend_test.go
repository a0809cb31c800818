package config

import (
	"strings"
	"testing"
)

// TestLineEndsDoNotMovePositions: a problem has the same line and column
// whatever the line ends and however many comments precede it.
func TestLineEndsDoNotMovePositions(t *testing.T) {
	for _, text := range []string{
		strings.Replace(Example(), "cidr: 10.213.0.0/16", "cidr: 10.213.0.0/16x", 1),
		"# one\n\n# two\netcd: # three\n  # four\n  endpoints:\n    - http://10.0.0.1:2379 # five\n    - http://10.0.0.1:2379\npool:\n  cidr: 10.213.0.0/16\n",
		"# one\n" + minimal + "# two\nzzzzzzzz: 1\n",
		minimal + "# one\nnode:\n  # two\n  environment:\n    A: |\n      b\n      c\n",
		minimal + "# one\nnode: {environment: {A:b}}\n",
		"# one\n" + minimal + "pool: [\n",
		"# one\n" + minimal + "x: \x01\n",
	} {
		want := problemLines(t, text)
		if len(want) == 0 {
			t.Fatalf("%q is valid", text)
		}
		for name, eol := range map[string]string{"CR LF": "\r\n", "CR": "\r"} {
			got := problemLines(t, strings.ReplaceAll(text, "\n", eol))
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s:\ngot  %q\nwant %q\n%s", name, got, want, text)
			}
		}
	}
}

func TestLineEndsDoNotMovePositionsInUserData(t *testing.T) {
	const text = "#cloud-config\n# one\nhostname: a\nfirstboot:\n  # two\n  pol: {}\n"
	want := decodeCloudConfig(Source{Name: "c", Data: []byte(text)}).problems.Error()
	got := decodeCloudConfig(Source{Name: "c", Data: []byte(strings.ReplaceAll(text, "\n", "\r\n"))}).problems.Error()
	if got != want || !strings.HasPrefix(want, "c:6:3") {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestPinKeepsLineEnds: the added line ends as the others do, and no other byte
// changes.
func TestPinKeepsLineEnds(t *testing.T) {
	const url = "  url: http://h/calicoctl   # mirror"
	for _, eol := range []string{"\n", "\r\n", "\r"} {
		for _, text := range []string{
			"# one\ncalicoctl:\n  # two\n" + url + "\n",
			"# one\ncalicoctl:\n" + url + "\n  version: v3.23.0\n",
			"calicoctl:\n" + url,
		} {
			want := strings.Replace(text, "# mirror", "# mirror\n  sha256: \""+sampleDigest+"\"", 1)
			if !strings.HasSuffix(text, "\n") {
				want += "\n"
			}
			got, err := Pin(Source{Name: "x", Data: []byte(strings.ReplaceAll(text, "\n", eol))}, map[string]string{"calicoctl": sampleDigest})
			if err != nil {
				t.Errorf("%q with %q: %v", text, eol, err)
			} else if string(got) != strings.ReplaceAll(want, "\n", eol) {
				t.Errorf("%q with %q becomes %q", text, eol, got)
			}
		}
	}
}
