package test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/projecteru2/firstboot/test/program"
)

// word is one line of words.txt.
type word struct {
	pattern *regexp.Regexp
	instead string
}

// readWords parses a list of words to avoid.
func readWords(text string) ([]word, error) {
	var words []word
	for number, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		pattern, instead, ok := strings.Cut(line, " => ")
		if !ok || instead == "" {
			return nil, fmt.Errorf("line %d: want PATTERN => REPLACEMENT", number+1)
		}
		re, err := regexp.Compile("(?i)" + pattern)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number+1, err)
		}
		words = append(words, word{re, instead})
	}
	return words, nil
}

// findWords lists the words of text that the list avoids, as NAME:LINE: WORD.
func findWords(words []word, name string, text []byte) []string {
	var found []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		for _, w := range words {
			if match := w.pattern.Find(lines.Bytes()); match != nil {
				found = append(found, fmt.Sprintf("%s:%d: %q: say %q", name, number, match, w.instead))
			}
		}
	}
	return found
}

func loadWords(t *testing.T) []word {
	t.Helper()
	text, err := os.ReadFile("words.txt")
	if err != nil {
		t.Fatal(err)
	}
	words, err := readWords(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return words
}

// repositoryFiles lists the files of the checkout, relative to its top, those
// not yet committed included.
func repositoryFiles(t *testing.T) []string {
	t.Helper()
	git := exec.Command("git", "-C", "..", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	out, err := git.Output()
	if err != nil {
		t.Skipf("git ls-files: %v", err)
	}
	return strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
}

// isProse reports whether people write and read the file. The list of words
// itself, fuzz inputs, checksums and the licence are left out.
func isProse(name string) bool {
	switch {
	case name == "test/words.txt", name == "test/words_test.go", name == "LICENSE", strings.HasSuffix(name, "go.sum"):
		return false
	case strings.Contains(name, "/testdata/fuzz/"):
		return false
	}
	return true
}

func TestFilesUsePlainWords(t *testing.T) {
	words := loadWords(t)
	for _, name := range repositoryFiles(t) {
		if !isProse(name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join("..", name))
		if os.IsNotExist(err) { // deleted, and not yet committed
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range findWords(words, name, text) {
			t.Error(finding)
		}
	}
}

// TestHelpUsesPlainWords reads the help as people do: sentences that the source
// builds from several strings are whole there.
func TestHelpUsesPlainWords(t *testing.T) {
	words := loadWords(t)
	firstboot := filepath.Join(t.TempDir(), "firstboot")
	if err := program.Build(t.Context(), firstboot); err != nil {
		t.Fatal(err)
	}
	var visit func(command ...string)
	visit = func(command ...string) {
		out, err := exec.Command(firstboot, append(command, "--help")...).Output()
		if err != nil {
			t.Fatalf("firstboot %s --help: %v", strings.Join(command, " "), err)
		}
		name := strings.Join(append([]string{"firstboot"}, command...), " ")
		for _, finding := range findWords(words, name, bytes.Join(bytes.Fields(out), []byte(" "))) {
			t.Error(finding)
		}
		for _, sub := range subcommands(out) {
			visit(append(command[:len(command):len(command)], sub)...)
		}
	}
	visit()
}

// subcommands reads the names of the commands from a help text.
func subcommands(help []byte) []string {
	_, rest, found := strings.Cut(string(help), "\nCommands:\n")
	if !found {
		return nil
	}
	var names []string
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			break
		}
		if fields[0] != "help" {
			names = append(names, fields[0])
		}
	}
	return names
}

func TestWordsAreFound(t *testing.T) {
	words, err := readWords("# a comment\n\nfolder => directory\n\\bis none\\b => is not a …\n")
	if err != nil {
		t.Fatal(err)
	}
	found := findWords(words, "a.md", []byte("one\nThe Folders of it\nis nonesuch\nthis is none\n"))
	want := []string{`a.md:2: "Folder": say "directory"`, `a.md:4: "is none": say "is not a …"`}
	if strings.Join(found, "\n") != strings.Join(want, "\n") {
		t.Errorf("found %q, want %q", found, want)
	}
	for _, text := range []string{"folder", "folder => ", "( => x"} {
		if _, err := readWords(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
