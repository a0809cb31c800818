package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the golden texts in testdata")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"firstboot": main,
		"calicoctl": func() { fmt.Println("Client Version:    v3.22.1") },
	})
}

// TestScripts runs the scripts in testdata: command lines and their output.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "digest": digest, "expand": expand, "readlink": readlink},
		Condition: func(cond string) (bool, error) {
			return cond == "root" && os.Geteuid() == 0 || cond == "GOARCH:"+runtime.GOARCH, nil
		},
	})
}

// exits CODE ARGS… runs firstboot ARGS… and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARGS…")
	}
	err := ts.Exec("firstboot", args[1:]...)
	got := "0"
	if err != nil {
		got = err.Error()
	}
	want := args[0]
	if want != "0" {
		want = "exit status " + want
	}
	if got != want {
		ts.Fatalf("firstboot %q: %s, want %s", args[1:], got, want)
	}
}

// expand FILE… expands variables in files, such as $WORK for absolute paths.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: expand FILE…")
	}
	for _, name := range args {
		path := ts.MkAbs(name)
		text := os.Expand(ts.ReadFile(path), ts.Getenv)
		ts.Check(os.WriteFile(path, []byte(text), 0o600))
	}
}

// digest NAME FILE sets the variable NAME to the SHA-256 of a file.
func digest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: digest NAME FILE")
	}
	ts.Setenv(args[0], fmt.Sprintf("%x", sha256.Sum256([]byte(ts.ReadFile(args[1])))))
}

// readlink PATH TARGET checks that PATH is a symbolic link to TARGET.
func readlink(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: readlink PATH TARGET")
	}
	target, err := os.Readlink(ts.MkAbs(args[0]))
	ts.Check(err)
	if target != args[1] {
		ts.Fatalf("%s links to %s, want %s", args[0], target, args[1])
	}
}
