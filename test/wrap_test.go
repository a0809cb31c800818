package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// TestNoErrorWrapsNil rejects `if err != nil || other { … Errorf("…%w", err) }`:
// if only the other condition holds, err is nil and the text ends in %!w(<nil>).
func TestNoErrorWrapsNil(t *testing.T) {
	for _, dir := range []string{"cmd", "images", "internal", "stages", "units"} {
		for _, path := range goFiles(t, filepath.Join("..", dir)) {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			if wrapsNil(file) {
				t.Errorf("%s: an error that may be nil is wrapped", path)
			}
		}
	}
}

func wrapsNil(file *ast.File) (found bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		branch, ok := n.(*ast.IfStmt)
		if !ok {
			return true
		}
		if cond, ok := branch.Cond.(*ast.BinaryExpr); !ok || cond.Op != token.LOR || !mentions(cond, "err") {
			return true
		}
		ast.Inspect(branch.Body, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && selector(call.Fun) == "fmt.Errorf" {
				for _, arg := range call.Args[1:] {
					if id, ok := arg.(*ast.Ident); ok && id.Name == "err" {
						found = true
					}
				}
			}
			return true
		})
		return true
	})
	return found
}

// mentions reports whether an expression contains this variable.
func mentions(e ast.Expr, name string) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.Name == name {
			found = true
		}
		return !found
	})
	return found
}

func TestWrappedNilIsFound(t *testing.T) {
	for source, want := range map[string]bool{
		`if err != nil || n == 0 { return fmt.Errorf("no: %w", err) }`:      true,
		`if n == 0 || err != nil { return x(fmt.Errorf("no: %w", err)) }`:   true,
		`if err != nil { return fmt.Errorf("no: %w", err) }`:                false,
		`if err != nil || n == 0 { return fmt.Errorf("no: %w", errOther) }`: false,
		`if err != nil && n == 0 { return fmt.Errorf("no: %w", err) }`:      false,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() error { "+source+"; return nil }", 0)
		if err != nil {
			t.Fatal(err)
		}
		if wrapsNil(file) != want {
			t.Errorf("%s: found %v, want %v", source, !want, want)
		}
	}
}
