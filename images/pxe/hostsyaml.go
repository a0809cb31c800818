package pxe

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/projecteru2/firstboot/images"
	"github.com/projecteru2/firstboot/internal/config"
)

// maxTokens limits a list of hosts before it is parsed: maxHosts hosts with 50 tokens
// each.
const maxTokens = 50 * maxHosts

// list is a list of hosts that is being read.
type list struct {
	name     string // of the file
	problems config.Problems
}

// problem adds a problem at a token.
func (l *list) problem(at *token.Token, key, message, hint string) {
	p := config.Problem{File: l.name, Line: 1, Col: 1, Path: key, Message: message, Hint: hint}
	if at != nil && at.Position != nil {
		p.Line, p.Col = max(1, at.Position.Line), max(1, at.Position.Column)
	}
	l.problems = append(l.problems, p)
}

// parse returns the syntax tree of a list, or nil after a problem. Texts are taken as
// they are written: a name such as 0123 is not a number.
func (l *list) parse(data []byte) (body ast.Node) {
	defer func() {
		if recover() != nil { // the parser has had panics
			body = nil
			l.problem(nil, "", "is not valid YAML", "")
		}
	}()
	if !utf8.Valid(data) {
		l.problem(nil, "", "is not UTF-8 text", "")
		return nil
	}
	if err := images.CheckYAML(data); err != nil {
		l.problem(nil, "", err.Error(), "")
		return nil
	}
	// The lexer counts a comment that ends with CR LF as two lines.
	tokens := lexer.Tokenize(strings.ReplaceAll(string(data), "\r\n", "\n"))
	if l.checkTokens(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	var at yaml.Error
	switch {
	case errors.As(err, &at):
		l.problem(at.GetToken(), "", "is not valid YAML", "")
	case err != nil:
		l.problem(nil, "", "is not valid YAML", "")
	case len(file.Docs) != 1 || file.Docs[0].Body == nil:
		l.problem(nil, "", "must be one YAML document", "write hosts: [{mac: …, name: …}]")
	default:
		return file.Docs[0].Body
	}
	return nil
}

// checkTokens reports whether the list has syntax that a list of hosts does not need,
// or is too long.
func (l *list) checkTokens(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		l.problem(tokens[maxTokens], "", "has too many entries", "")
		return true
	}
	for _, tk := range tokens {
		switch tk.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			l.problem(tk, "", "anchors, aliases and merge keys are not allowed", "repeat the value instead")
		case token.TagType, token.DirectiveType, token.MappingKeyType:
			l.problem(tk, "", "tags, directives and explicit keys (?) are not allowed", "")
		}
	}
	return len(l.problems) > 0
}

// mapping calls entry for each key of a mapping, and reports duplicate keys.
func (l *list) mapping(node ast.Node, path, form string, entry func(key string, at *token.Token, value ast.Node)) {
	m, ok := node.(ast.MapNode)
	if !ok {
		l.problem(node.GetToken(), path, "must be a mapping", form)
		return
	}
	seen := map[string]bool{}
	for it := m.MapRange(); it.Next(); {
		at := it.Key().GetToken()
		key := at.Value
		if seen[key] {
			l.problem(at, join(path, key), "duplicate key", "")
			continue
		}
		seen[key] = true
		entry(key, at, it.Value())
	}
}

// sequence calls entry for each item of a sequence.
func (l *list) sequence(node ast.Node, path, form string, entry func(i int, item ast.Node)) {
	s, ok := node.(*ast.SequenceNode)
	if !ok {
		l.problem(node.GetToken(), path, "must be a list", form)
		return
	}
	for i, item := range s.Values {
		entry(i, item)
	}
}

// text returns a scalar as it is written.
func (l *list) text(node ast.Node, path string) (string, bool) {
	switch n := node.(type) {
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.NullNode:
		l.problem(n.GetToken(), path, "has no value", "")
		return "", false
	case ast.ScalarNode:
		return n.GetToken().Value, true
	}
	l.problem(node.GetToken(), path, "must be text", "quote it")
	return "", false
}

// join returns the path of a key in a mapping. The key is untrusted.
func join(path, key string) string {
	key = images.Truncate(key)
	if path == "" {
		return key
	}
	return fmt.Sprintf("%s.%s", path, key)
}
