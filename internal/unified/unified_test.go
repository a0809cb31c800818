package unified_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/internal/unified"
)

// cases are contents of a file before and after; nil: it does not exist.
func cases() map[string][2][]byte {
	many := strings.Repeat("line\n", 50)
	return map[string][2][]byte{
		"new":                            {nil, []byte("a\nb\n")},
		"new, one line":                  {nil, []byte("a\n")},
		"new, no newline":                {nil, []byte("a\nb")},
		"changed":                        {[]byte("a\nb\nc\n"), []byte("a\nB\nc\n")},
		"from empty":                     {[]byte{}, []byte("a\n")},
		"newline added":                  {[]byte("a\nb"), []byte("a\nb\n")},
		"newline removed":                {[]byte("a\nb\n"), []byte("a\nb")},
		"no newline in either":           {[]byte("a\nb"), []byte("a\nc")},
		"two hunks":                      {[]byte("x\n" + many + "y\n"), []byte("X\n" + many + "Y\n")},
		"CRLF":                           {[]byte("a\r\nb\r\n"), []byte("a\r\nc\r\n")},
		"appended":                       {[]byte("a\n"), []byte("a\nb\nc\n")},
		"lines like those of a diff":     {[]byte("--- a\n"), []byte("+++ b\n@@ -1 +1 @@\n")},
		"blank lines":                    {[]byte("\n\na\n"), []byte("\na\n\n")},
		"everything removed":             {[]byte("a\nb\n"), []byte{}},
		"a file that ends in the middle": {[]byte(many + "end"), []byte("begin\n" + many + "end")},
	}
}

func TestPatchAndGitApplyAcceptTheDiff(t *testing.T) {
	tools := map[string][]string{
		"patch": {"patch", "-p0", "--quiet", "--binary", "-i"}, "git": {"git", "apply", "-p0", "--whitespace=nowarn"},
	}
	for tool, command := range tools {
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Logf("%s is not installed: not tested with it", tool)
			continue
		}
		for name, c := range cases() {
			diff := unified.Diff("/etc/app.d/x.conf", c[0], c[1])
			if tool == "patch" && len(c[1]) == 0 {
				continue // patch removes an empty file
			}
			if got := apply(t, command, diff, c[0]); got != string(c[1]) {
				t.Errorf("%s, %s: got %q, want %q from\n%s", tool, name, got, c[1], diff)
			}
		}
	}
}

// apply applies the diff in a directory that has the file before, and returns
// the file after.
func apply(t *testing.T, command []string, diff string, before []byte) string {
	t.Helper()
	dir := t.TempDir()
	file, patch := filepath.Join(dir, "etc/app.d/x.conf"), filepath.Join(dir, "x.patch")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if before != nil {
		if err := os.WriteFile(file, before, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(patch, []byte(diff), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], append(command[1:], patch)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s refused the diff: %v\n%s\n%s", command[0], err, out, diff)
		return ""
	}
	after, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	}
	return string(after)
}

func TestDiffOfANewFile(t *testing.T) {
	const want = "--- /dev/null\n+++ etc/x\n@@ -0,0 +1,2 @@\n+a\n+b\n"
	if got := unified.Diff("/etc/x", nil, []byte("a\nb\n")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := unified.Diff("/etc/x", []byte("a\n"), []byte("a\n")); got != "" {
		t.Errorf("equal files differ:\n%s", got)
	}
	if got := unified.Diff("/etc/x", nil, make([]byte, 1_000_000)); got != "" {
		t.Error("a large file was compared")
	}
}
