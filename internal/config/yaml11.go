package config

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// cloud-init reads user-data with PyYAML, as YAML 1.1, and writes it again. A
// value without quotes may then become another one: 0644 becomes 420.

// Forms of a plain scalar that are not text in YAML 1.1, from PyYAML's resolver.
var (
	yaml11Bool  = regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	yaml11Int   = regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	yaml11Float = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	yaml11Time  = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}`)
)

// changesInYAML11 reports whether YAML 1.1 reads a plain scalar as a value that
// it writes differently.
func changesInYAML11(plain string) bool {
	switch {
	case yaml11Bool.MatchString(plain):
		return plain != "true" && plain != "false"
	case yaml11Int.MatchString(plain):
		n := strings.TrimPrefix(plain, "-")
		return !isDecimal(n)
	case yaml11Float.MatchString(plain):
		f, err := strconv.ParseFloat(plain, 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return plain != ".inf" && plain != "-.inf" && plain != ".nan"
		}
		shortest := strconv.FormatFloat(f, 'f', -1, 64)
		return shortest != plain && shortest+".0" != plain
	}
	return yaml11Time.MatchString(plain) || plain == "="
}

// checkYAML11 warns about a value that another program will change.
func (d *decoder) checkYAML11(path string, node ast.Node) {
	tk := node.GetToken()
	if _, _, ok := scalarOf(node); !d.yaml11 || !ok || tk.Type == token.DoubleQuoteType || tk.Type == token.SingleQuoteType || node.Type() == ast.LiteralType {
		return
	}
	if changesInYAML11(tk.Value) {
		d.warnings = append(d.warnings, d.position(tk).problem(path, "is changed by cloud-init, which reads YAML 1.1", "put the value in quotes"))
	}
}
