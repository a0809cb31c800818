package config

import (
	"slices"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder converts a syntax tree to a layer and collects the problems.
type decoder struct {
	source     Source
	layer      layer
	sections   map[string]position // positions of the sections' keys, for reports of missing keys
	seen       map[string]bool     // paths that have a value, valid or not
	unreadable bool                // the text could not be parsed
	problems   Problems
	warnings   Problems
	yaml11     bool // another program reads the source first, as YAML 1.1
}

func newDecoder(s Source) *decoder {
	return &decoder{source: s, layer: layer{}, sections: map[string]position{}, seen: map[string]bool{}}
}

// decode reads a whole source.
func decode(s Source) *decoder {
	d := newDecoder(s)
	body, problems := parse(s)
	d.problems, d.unreadable = problems, problems != nil
	if body != nil {
		d.section("", body)
	}
	return d
}

func (d *decoder) position(tk *token.Token) position {
	at := tokenPosition(d.source.Name, tk)
	at.nameOnly = d.source.nameOnly
	return at
}

func (d *decoder) fail(at position, path, message, hint string) {
	d.problems = append(d.problems, at.problem(path, message, hint))
}

// section reads a mapping whose keys are in the schema.
func (d *decoder) section(path string, node ast.Node) {
	d.each(path, node, "a mapping of keys", func(name string, key *token.Token, v ast.Node) {
		below := joinPath(path, name)
		if k, entry, ok := findKey(below); ok && entry == "" {
			d.leaf(k, key, v)
			return
		}
		if path == "" && slices.Contains(childNames(""), name) {
			d.sections[name] = d.position(key)
			if v.Type() != ast.NullType { // null: all its keys are commented out
				d.section(name, v)
			}
			return
		}
		message, hint := unknownKey(path, name)
		d.fail(d.position(key), "", message, hint)
	})
}

// leaf reads the value of a key in the schema.
func (d *decoder) leaf(k key, keyToken *token.Token, node ast.Node) {
	d.sections[k.path] = d.position(keyToken)
	if k.isMap() {
		d.entries(k, node)
		return
	}
	d.seen[k.path] = true
	if node.Type() == ast.NullType {
		d.fail(d.position(keyToken), k.path, "has no value", "set a value or remove the key")
		return
	}
	if _, isList := k.field(new(Config)).(*[]string); isList {
		d.list(k, node)
		return
	}
	d.scalar(k, k.path, node)
}

// entries reads a mapping whose keys the user chooses.
func (d *decoder) entries(k key, node ast.Node) {
	if node.Type() == ast.NullType {
		return
	}
	d.each(k.path, node, "a mapping of names to values", func(name string, key *token.Token, v ast.Node) {
		path := joinPath(k.path, name)
		d.seen[path] = true
		_, nested := v.(ast.MapNode) // net: {ipv4: …}; scalar reports it
		nestedSysctl := nested && k.path == "sysctl" && sysctlSegment.MatchString(name)
		if f := k.checkName(name); f != nil && !nestedSysctl {
			d.fail(d.position(key), k.shownPath(name), f.message, f.hint)
			return
		}
		if v.Type() == ast.NullType {
			d.fail(d.position(key), path, "has no value", "set a value or remove the key")
			return
		}
		d.scalar(k, path, v)
	})
}

// list reads a list of text. It replaces the lists of earlier sources.
func (d *decoder) list(k key, node ast.Node) {
	seq, ok := node.(*ast.SequenceNode)
	if !ok {
		hint := ""
		if _, _, isScalar := scalarOf(node); isScalar {
			hint = "enclose it in [ and ]"
		}
		d.fail(d.nodePosition(node), k.path, "must be a list", hint)
		return
	}
	items, positions := []string{}, []position{}
	for _, item := range seq.Values {
		d.checkYAML11(k.path, item)
		s, _, ok := scalarOf(item)
		if !ok {
			d.fail(d.nodePosition(item), k.path, "must be a list of text", "")
			continue
		}
		v, f := convert(k.field(new(Config)), s)
		if f != nil {
			d.fail(d.nodePosition(item), k.path, f.message, f.hint)
			continue
		}
		items, positions = append(items, v.(string)), append(positions, d.nodePosition(item))
	}
	d.layer[k.path] = value{data: items, at: d.nodePosition(node), items: positions}
}

// scalar reads one value. If k is a map, path includes the name of the entry.
func (d *decoder) scalar(k key, path string, node ast.Node) {
	d.checkYAML11(path, node)
	s, tk, ok := scalarOf(node)
	if !ok {
		hint := ""
		if k.path == "sysctl" {
			hint = "write the whole name as one key, such as net.ipv4.ip_forward"
		}
		d.fail(d.nodePosition(node), path, "must be a single value", hint)
		return
	}
	v, f := convert(k.field(new(Config)), s)
	if f != nil {
		d.fail(d.position(tk), path, f.message, f.hint)
		return
	}
	d.layer[path] = value{data: v, at: d.position(tk)}
}

// each calls visit for every entry of a mapping, and reports duplicate keys.
func (d *decoder) each(path string, node ast.Node, wanted string, visit func(string, *token.Token, ast.Node)) {
	m, ok := node.(ast.MapNode)
	if !ok {
		d.fail(d.nodePosition(node), path, "must be "+wanted, "")
		return
	}
	seen := map[string]position{}
	for it := m.MapRange(); it.Next(); {
		tk := it.Key().GetToken()
		name := tk.Value
		if first, twice := seen[name]; twice {
			d.fail(d.position(tk), "", duplicateKey(path, name), "first at "+first.origin())
			continue
		}
		seen[name] = d.position(tk)
		v := it.Value()
		if v == nil {
			v = ast.Null(tk)
		}
		visit(name, tk, v)
	}
}

// scalarOf returns a node's scalar and token, and whether it is a scalar.
func scalarOf(node ast.Node) (scalar, *token.Token, bool) {
	tk := node.GetToken()
	switch n := node.(type) {
	case *ast.StringNode:
		return scalar{n.Value, textScalar}, tk, true
	case *ast.LiteralNode:
		return scalar{n.Value.Value, textScalar}, tk, true
	case *ast.IntegerNode:
		return scalar{tk.Value, integerScalar}, tk, true
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return scalar{tk.Value, floatScalar}, tk, true
	case *ast.BoolNode:
		return scalar{tk.Value, boolScalar}, tk, true
	}
	return scalar{}, nil, false
}

// nodePosition returns where a node begins.
func (d *decoder) nodePosition(node ast.Node) position { return d.position(firstToken(node)) }
