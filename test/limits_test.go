package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unlimited lists the calls without a limit of their own that are allowed: the
// file and the call, and why.
func unlimited() map[string]string {
	return map[string]string{
		"cmd/firstboot/root.go context.Background":               "the root of every context; each command ends with a signal",
		"cmd/firstboot/seal.go context.Background":               "writes a file",
		"internal/artifact/bundle.go context.Background":         "reads a local file",
		"internal/report/bootmessage.go context.Background":      "host.Command has a timeout",
		"internal/cluster/lease.go context.WithoutCancel":        "a lease lives until it is released; each renewal has a limit",
		"internal/host/systemd_connect.go context.WithoutCancel": "the connection outlives a call; each call has a limit",
		"internal/host/socket.go http.Client":                    "a request without a deadline is rejected",
		"internal/cluster/v2.go http.Client":                     "each request has a limit",
		"internal/web/web.go http.Client":                        "each request has a limit for its time or for silence",
		"internal/host/command.go exec.CommandContext":           "host.Command has a timeout",
		"stages/verify.go context.WithoutCancel":                 "each call of Docker has a limit",
		"images/disk/configure.go context.WithoutCancel":         "host.Command has a timeout",
	}
}

// limiting lists the functions that give a context a limit.
var limiting = []string{"context.WithTimeout", "context.WithTimeoutCause", "context.WithDeadline", "context.WithDeadlineCause"}

// TestEveryCallHasALimit rejects what can wait without a limit: a context without
// a deadline, an HTTP client without a timeout, a command without a context.
func TestEveryCallHasALimit(t *testing.T) {
	used := map[string]bool{}
	for _, dir := range []string{"cmd", "images", "internal", "stages", "units"} {
		for _, path := range goFiles(t, filepath.Join("..", dir)) {
			name := strings.TrimPrefix(filepath.ToSlash(path), "../")
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range unlimitedCalls(file) {
				key := name + " " + call
				used[key] = true
				if unlimited()[key] == "" {
					t.Errorf("%s: %s has no limit", name, call)
				}
			}
		}
	}
	for key := range unlimited() {
		if !used[key] {
			t.Errorf("%s is allowed and not used", key)
		}
	}
}

// unlimitedCalls returns the calls in a file that have no limit.
func unlimitedCalls(file *ast.File) []string {
	var found []string
	limited := map[ast.Node]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			name := selector(n.Fun)
			if slices.Contains(limiting, name) {
				limited[n.Args[0]] = true
			}
			if limited[n] {
				return true
			}
			switch name {
			case "context.Background", "context.TODO", "context.WithoutCancel", "exec.Command", "exec.CommandContext",
				"http.Get", "http.Head", "http.Post", "http.PostForm", "net.Dial", "http.ListenAndServe":
				found = append(found, name)
			}
		case *ast.CompositeLit:
			if name := selector(n.Type); name == "http.Client" && !sets(n, "Timeout") {
				found = append(found, name)
			}
		case *ast.SelectorExpr:
			if name := selector(n); name == "http.DefaultClient" {
				found = append(found, name)
			}
		}
		return true
	})
	return found
}

// selector returns PACKAGE.NAME, or "".
func selector(e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + s.Sel.Name
}

// sets reports whether a literal sets a field.
func sets(literal *ast.CompositeLit, field string) bool {
	return slices.ContainsFunc(literal.Elts, func(e ast.Expr) bool {
		kv, ok := e.(*ast.KeyValueExpr)
		return ok && fmt.Sprint(kv.Key) == field
	})
}

// goFiles lists the Go files of the product below a directory.
func goFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.go", "*/*.go", "*/*/*.go"} {
		matches, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, matches...)
	}
	return slices.DeleteFunc(files, func(path string) bool { return strings.HasSuffix(path, "_test.go") })
}

func TestUnlimitedCallsAreFound(t *testing.T) {
	for source, want := range map[string]string{
		`x(context.Background())`: "context.Background",
		`x(context.TODO())`:       "context.TODO",
		`ctx, c := context.WithTimeout(context.Background(), d); x(ctx, c)`:   "",
		`ctx, c := context.WithCancel(context.WithoutCancel(ctx)); x(ctx, c)`: "context.WithoutCancel",
		`x(&http.Client{})`:          "http.Client",
		`x(http.Client{Timeout: d})`: "",
		`x(http.DefaultClient)`:      "http.DefaultClient",
		`x(exec.Command("true"))`:    "exec.Command",
		`x(http.Get("http://x"))`:    "http.Get",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() { "+source+" }", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(unlimitedCalls(file), " "); got != want {
			t.Errorf("%s: found %q, want %q", source, got, want)
		}
	}
}
