package config

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on the structure of a source. The configuration is three levels deep.
// The parser recurses for each level, and Go cannot recover from a stack
// overflow.
const (
	maxDepth   = 32
	maxEntries = 1 << 14 // tokens; a configuration with 1,000 settings has 4,000
)

// parse returns the syntax tree of a source, or nil if the source is empty. It
// rejects syntax that a configuration does not need and that is a risk: several
// documents, anchors, aliases, tags, directives. It never panics.
func parse(s Source) (body ast.Node, problems Problems) {
	at := position{source: s.Name, line: 1, col: 1}
	defer func() {
		if recover() != nil {
			body, problems = nil, Problems{at.problem("", "is not valid YAML", "")}
		}
	}()
	text, fail := checkBytes(s)
	if fail != nil {
		return nil, Problems{*fail}
	}
	tokens := lexer.Tokenize(text)
	if p := checkTokens(s.Name, tokens); p != nil {
		return nil, Problems{*p}
	}
	tokens = joinFlow(tokens)
	if p := checkColons(s.Name, tokens); p != nil {
		return nil, Problems{*p}
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, Problems{syntaxProblem(s.Name, err)}
	}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			p := tokenPosition(s.Name, firstToken(doc.Body)).problem("", "contains a second YAML document", "write one configuration per file")
			return nil, Problems{p}
		}
		body = doc.Body
	}
	return body, nil
}

// checkBytes rejects data that is not text. It removes a byte order mark and
// carriage returns.
func checkBytes(s Source) (string, *Problem) {
	at := position{source: s.Name, line: 1, col: 1}
	refuse := func(offset int, message string) (string, *Problem) {
		before := lineEnds.Replace(string(s.Data[:offset]))
		at.line = 1 + strings.Count(before, "\n")
		at.col = 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
		p := at.problem("", message, "")
		return "", &p
	}
	if len(s.Data) > MaxSource {
		return refuse(0, "is larger than 1 MB")
	}
	for i, r := range string(s.Data) {
		switch {
		case r == utf8.RuneError && !bytes.HasPrefix(s.Data[i:], []byte("\uFFFD")):
			return refuse(i, "is not UTF-8 text")
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r >= 0x7f && r < 0xa0:
			return refuse(i, "contains a control character")
		}
	}
	// goccy/go-yaml 1.19 counts the line end of a comment twice if it is CR LF.
	return lineEnds.Replace(strings.TrimPrefix(string(s.Data), "\uFEFF")), nil
}

// lineEnds makes every line end, as YAML defines it, a line feed. Lines and
// columns stay the same.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// checkTokens limits the nesting depth before the parser recurses, and rejects
// syntax that a configuration does not need.
func checkTokens(name string, tokens token.Tokens) *Problem {
	refuse := func(tk *token.Token, message, hint string) *Problem {
		p := tokenPosition(name, tk).problem("", message, hint)
		return &p
	}
	if len(tokens) > maxEntries {
		return refuse(tokens[maxEntries], "has too many entries", "")
	}
	flow, dashes, line := 0, 0, 0
	for _, tk := range tokens {
		if tk.Position.Line != line {
			line, dashes = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType:
			dashes++
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return refuse(tk, "anchors, aliases and merge keys are not allowed", "repeat the value instead")
		case token.TagType, token.DirectiveType:
			return refuse(tk, "tags and directives are not allowed", "")
		case token.MappingKeyType:
			return refuse(tk, "explicit keys (?) are not allowed", "write key: value")
		}
		// Block mappings need no limit: each level costs a column, so 1 MB has
		// room for at most 1,400 levels.
		if flow > maxDepth || dashes > maxDepth {
			return refuse(tk, "is nested too deeply", "")
		}
	}
	return nil
}

// joinFlow rejoins plain scalars that contain a colon. In a sequence inside a
// flow mapping ({endpoints: [http://10.0.0.1:2379]}), goccy/go-yaml 1.19 splits
// at any colon; YAML requires a space after it.
func joinFlow(tokens token.Tokens) token.Tokens {
	var out token.Tokens
	var open []token.Type
	for i := 0; i < len(tokens); i++ {
		tk := tokens[i]
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			open = append(open, tk.Type)
		case token.MappingEndType, token.SequenceEndType:
			open = open[:max(0, len(open)-1)]
		case token.MappingValueType:
			inSequence := len(open) > 0 && open[len(open)-1] == token.SequenceStartType
			if inSequence && i > 0 && i+1 < len(tokens) && adjacent(out[len(out)-1], tk) && adjacent(tk, tokens[i+1]) {
				before, after := out[len(out)-1], tokens[i+1]
				joined := token.New(before.Value+":"+after.Value, before.Origin+":"+after.Origin, before.Position)
				joined.Prev, joined.Next = before.Prev, after.Next
				out[len(out)-1] = joined
				i++
				continue
			}
		}
		out = append(out, tk)
	}
	relink(out)
	return out
}

// checkColons rejects {NAME:VALUE}. In YAML this is one key without a value, but
// goccy/go-yaml 1.19 reads it as a pair.
func checkColons(name string, tokens token.Tokens) *Problem {
	flow := 0
	for i, tk := range tokens {
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.MappingValueType:
			if flow < 1 || i == 0 || i+1 >= len(tokens) {
				continue
			}
			key, next := tokens[i-1], tokens[i+1]
			quoted := key.Type == token.SingleQuoteType || key.Type == token.DoubleQuoteType
			empty := next.Type == token.CollectEntryType || next.Type == token.MappingEndType || next.Type == token.SequenceEndType
			touches := next.Position.Line == tk.Position.Line && next.Position.Column == tk.Position.Column+1
			if touches && !quoted && !empty {
				p := tokenPosition(name, tk).problem("", "inside braces a colon needs a space after it", "write {NAME: VALUE}")
				return &p
			}
		}
	}
	return nil
}

// adjacent reports whether two tokens, plain scalars or the colon between them,
// have no space in between.
func adjacent(a, b *token.Token) bool {
	plain := func(tk *token.Token) bool {
		return tk.Type == token.MappingValueType || tk.Indicator == token.NotIndicator && tk.CharacterType == token.CharacterTypeMiscellaneous
	}
	return plain(a) && plain(b) && a.Position.Line == b.Position.Line &&
		a.Position.Column+utf8.RuneCountInString(a.Value) == b.Position.Column
}

// relink restores the linked list of tokens, which the parser follows.
func relink(tokens token.Tokens) {
	for i, tk := range tokens {
		if i > 0 {
			tk.Prev, tokens[i-1].Next = tokens[i-1], tk
		}
	}
}

// firstToken returns the token where a node begins. The token of a block
// mapping itself is its first colon.
func firstToken(node ast.Node) *token.Token {
	if m, ok := node.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken()
	}
	return node.GetToken()
}

// syntaxProblem returns the position and message of a parser error. It drops
// the excerpt of the source, which may contain a secret.
func syntaxProblem(name string, err error) Problem {
	at := position{source: name, line: 1, col: 1}
	var e yaml.Error
	if !errors.As(err, &e) {
		return at.problem("", "is not valid YAML", "")
	}
	if e.GetToken() != nil {
		at = tokenPosition(name, e.GetToken())
	}
	message := strings.ReplaceAll(e.GetMessage(), "'\t'", "TAB")
	if strings.ContainsAny(message, "\"\n") { // it quotes the source
		message = "unexpected text"
	}
	hint := ""
	if strings.Contains(message, "TAB") || strings.Contains(message, "tab ") {
		hint = "indent with spaces"
	}
	return at.problem("", "is not valid YAML: "+message, hint)
}

func tokenPosition(name string, tk *token.Token) position {
	at := position{source: name, line: 1, col: 1}
	if tk != nil && tk.Position != nil {
		at.line, at.col = max(1, tk.Position.Line), max(1, tk.Position.Column)
	}
	return at
}
