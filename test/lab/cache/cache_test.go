package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// builderVariable makes the test binary act as another process: it starts to
// build an entry in this directory, prints "building", and never ends.
const builderVariable = "CACHE_TEST_BUILDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(builderVariable); dir != "" {
		_, err := Store{Dir: dir}.Get(context.Background(), "thing", Key("1"), func(_ context.Context, dir string) error {
			if err := os.WriteFile(filepath.Join(dir, "half"), []byte("wri"), 0o644); err != nil {
				return err
			}
			fmt.Println("building")
			select {}
		})
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// startBuilder starts a process that holds the entry's lock and has written half of the entry.
func startBuilder(t *testing.T, dir string) (pid int, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), builderVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "building\n" {
		t.Fatalf("the other process printed %q (%v)", line, err)
	}
	return cmd.Process.Pid, kill
}

func write(name string) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644)
	}
}

func mustNotBuild(context.Context, string) error { return errors.New("it was built again") }

func names(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range all {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func TestEntryIsBuiltOnce(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "new")}
	first, err := s.Get(t.Context(), "thing", Key("1"), write("a"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Get(t.Context(), "thing", Key("1"), mustNotBuild)
	if err != nil || again != first || names(t, again) != "a" {
		t.Errorf("second Get: %s with %s (%v), want %s with a", again, names(t, again), err, first)
	}
	other, err := s.Get(t.Context(), "thing", Key("2"), write("b"))
	if err != nil || other == first || names(t, other) != "b" {
		t.Errorf("Get with another key: %s (%v)", other, err)
	}
}

func TestFailedBuildIsRemoved(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	broken := errors.New("no space")
	_, err := s.Get(t.Context(), "thing", Key("1"), func(ctx context.Context, dir string) error {
		return errors.Join(write("half")(ctx, dir), broken)
	})
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "cannot build thing: ") {
		t.Errorf("error is %v", err)
	}
	if seen := names(t, s.Dir); seen != ".lock-thing-"+Key("1") {
		t.Errorf("left behind: %s", seen)
	}
	if _, err := s.Get(t.Context(), "thing", Key("1"), write("a")); err != nil {
		t.Errorf("next Get: %v", err)
	}
}

func TestUnfinishedBuildOfAKilledProcessIsNotUsed(t *testing.T) {
	dir := t.TempDir()
	_, kill := startBuilder(t, dir)
	kill()
	entry, err := Store{Dir: dir}.Get(t.Context(), "thing", Key("1"), write("whole"))
	if err != nil {
		t.Fatal(err)
	}
	if seen := names(t, entry); seen != "whole" {
		t.Errorf("the entry contains %s, want only whole", seen)
	}
}

func TestGetWaitsForAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	pid, kill := startBuilder(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var lines []string
	s := Store{Dir: dir, Log: func(format string, args ...any) {
		lines = append(lines, fmt.Sprintf(format, args...))
		kill() // then the kernel releases the lock
	}}
	if _, err := s.Get(ctx, "thing", Key("1"), write("a")); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("thing: waiting for another process that builds it (pid %d)", pid); lines[0] != want {
		t.Errorf("log line is %q, want %q", lines[0], want)
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	pid, _ := startBuilder(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	s := Store{Dir: dir, Log: func(string, ...any) { cancel() }}
	_, err := s.Get(ctx, "thing", Key("1"), mustNotBuild)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), fmt.Sprintf("another process builds it (pid %d)", pid)) {
		t.Errorf("error is %v", err)
	}
}

func TestUnusedEntriesWithTheSameNameAreRemoved(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	entry := func(name, key string, age time.Duration) string {
		t.Helper()
		path, err := s.Get(t.Context(), name, Key(key), write("a"))
		if err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := entry("thing", "old", 2*maxUnused)
	recent := entry("thing", "recent", maxUnused/2)
	other := entry("thing-two", "old", 2*maxUnused)
	half := filepath.Join(s.Dir, "thing-"+Key("killed")+partSuffix)
	if err := os.Mkdir(half, 0o755); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-2 * maxUnused)
	if err := os.Chtimes(half, then, then); err != nil {
		t.Fatal(err)
	}
	entry("thing", "new", 0)
	for path, kept := range map[string]bool{old: false, half: false, recent: true, other: true} {
		if _, err := os.Stat(path); (err == nil) != kept {
			t.Errorf("%s exists: %v, want %v", filepath.Base(path), err == nil, kept)
		}
	}
}

func TestInvalidNamesAreRefused(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	for _, name := range []string{"", "../x", "A", "-x", "a/b"} {
		if _, err := s.Get(t.Context(), name, Key("1"), mustNotBuild); err == nil || !strings.Contains(err.Error(), "want lower case") {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}

func TestDirectoryIsReadFromTheEnvironment(t *testing.T) {
	t.Setenv(Variable, "/some/where")
	if s := Open(nil); s.Dir != "/some/where" {
		t.Errorf("the directory is %s", s.Dir)
	}
	t.Setenv(Variable, "")
	if s := Open(nil); s.Dir != DefaultDir {
		t.Errorf("the directory is %s", s.Dir)
	}
}
