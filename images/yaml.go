package images

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on YAML input. A list of hosts and a network configuration are five
// levels deep. A network configuration may use an alias for each interface.
const (
	maxDepth   = 32
	maxDashes  = 16
	maxAliases = 1000
	maxNodes   = 100_000 // with every alias replaced by its anchor's value
)

// CheckYAML reports an error if data is nested so deeply, or has so many aliases,
// that the parser or decoder would take minutes, exhaust the memory or overflow
// its stack. Brackets inside strings count too; real input does not contain that
// many.
func CheckYAML(data []byte) error {
	if err := checkNesting(data); err != nil {
		return err
	}
	if strings.Count(string(data), "*") == 0 {
		return nil
	}
	tokens, aliases := lexer.Tokenize(string(data)), 0
	for _, tk := range tokens {
		if tk.Type == token.AliasType {
			aliases++
		}
	}
	switch {
	case aliases > maxAliases:
		return errors.New("has too many aliases")
	case aliases == 0:
		return nil
	}
	return checkExpansion(tokens)
}

// checkExpansion reports an error if the aliases expand to too many nodes.
func checkExpansion(tokens token.Tokens) (err error) {
	defer func() {
		if recover() != nil { // the parser has had panics
			err = errors.New("is not valid YAML")
		}
	}()
	file, parseErr := parser.Parse(tokens, 0)
	if parseErr != nil {
		return errors.New("is not valid YAML")
	}
	w := &expansion{anchors: map[string]int{}}
	total := 0
	for _, doc := range file.Docs {
		if doc.Body != nil {
			total = min(total+w.size(doc.Body), maxNodes+1)
		}
	}
	if total > maxNodes {
		return errors.New("has aliases that expand to too many values")
	}
	return nil
}

// expansion counts nodes. anchors holds the number of nodes of each anchor's
// value.
type expansion struct{ anchors map[string]int }

// size returns the number of nodes after expansion, at most maxNodes+1.
func (e *expansion) size(node ast.Node) int {
	n := 1
	switch node := node.(type) {
	case *ast.AnchorNode:
		n = e.size(node.Value)
		e.anchors[node.Name.GetToken().Value] = n
	case *ast.AliasNode:
		of, complete := e.anchors[node.Value.GetToken().Value]
		if !complete { // it contains itself
			of = maxNodes
		}
		n += of
	case *ast.TagNode:
		n += e.size(node.Value)
	case *ast.SequenceNode:
		for _, v := range node.Values {
			n = min(n+e.size(v), maxNodes+1)
		}
	case *ast.MappingNode:
		for _, v := range node.Values {
			n = min(n+e.size(v), maxNodes+1)
		}
	case *ast.MappingValueNode:
		n += e.size(node.Key) + e.size(node.Value)
	case *ast.MappingKeyNode:
		n += e.size(node.Value)
	}
	return min(n, maxNodes+1)
}

func checkNesting(data []byte) error {
	depth := 0
	for line := range strings.Lines(string(data)) {
		for _, r := range line {
			switch r {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			}
			if depth > maxDepth {
				return errors.New("nested too deeply")
			}
		}
		if start := strings.TrimLeft(line, "- "); strings.Count(line[:len(line)-len(start)], "-") > maxDashes {
			return errors.New("nested too deeply")
		}
	}
	return nil
}
