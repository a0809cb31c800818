package config

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

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
	yaml11Date  = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	yaml11Time  = regexp.MustCompile(`^([0-9]{4}-[0-9]{1,2}-[0-9]{1,2})(?:[Tt]|[ \t]+)([0-9]{1,2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?$`)
)

// Python writes numbers with a decimal exponent outside of these bounds with an
// exponent (repr).
const (
	minPlainExponent = -4
	maxPlainExponent = 15
)

// changesInYAML11 reports whether YAML 1.1 reads a plain scalar as a value that
// it writes differently.
func changesInYAML11(plain string) bool {
	switch {
	case yaml11Bool.MatchString(plain):
		return plain != "true" && plain != "false"
	case yaml11Int.MatchString(plain):
		n := strings.TrimPrefix(plain, "-")
		return !isDecimal(n) || plain == "-0"
	case yaml11Float.MatchString(plain):
		return changesAsFloat(plain)
	}
	return yaml11Time.MatchString(plain) || plain == "="
}

// changesAsFloat is changesInYAML11 for a number with a decimal point.
func changesAsFloat(plain string) bool {
	f, err := strconv.ParseFloat(plain, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return plain != ".inf" && plain != "-.inf" && plain != ".nan"
	}
	written := strconv.FormatFloat(f, 'e', -1, 64)
	digits, text, _ := strings.Cut(written, "e")
	exponent, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return true
	case exponent >= minPlainExponent && exponent <= maxPlainExponent:
		written = strconv.FormatFloat(f, 'f', -1, 64)
		return written != plain && written+".0" != plain
	case !strings.Contains(digits, "."):
		written = digits + ".0e" + text
	}
	return written != plain
}

// isInvalidTime reports whether YAML 1.1 reads a plain scalar as a date or time
// that does not exist, such as 2024-02-30. PyYAML then rejects the whole file.
func isInvalidTime(plain string) bool {
	date, clock := plain, "0:00:00"
	if m := yaml11Time.FindStringSubmatch(plain); m != nil {
		date, clock = m[1], m[2]
	} else if !yaml11Date.MatchString(plain) {
		return false
	}
	t, err := time.Parse("2006-1-2 15:04:05", date+" "+clock)
	return err != nil || t.Year() == 0 // Python's first year is 1
}

// checkYAML11 warns about a value that another program will change.
func (d *decoder) checkYAML11(path string, node ast.Node) {
	tk := node.GetToken()
	if _, _, ok := scalarOf(node); !d.yaml11 || !ok || tk.Type == token.DoubleQuoteType || tk.Type == token.SingleQuoteType || node.Type() == ast.LiteralType {
		return
	}
	switch {
	case isInvalidTime(tk.Value):
		d.warnings = append(d.warnings, d.position(tk).problem(path, "is not a valid date or time for cloud-init, which then rejects the file", "put the value in quotes"))
	case changesInYAML11(tk.Value):
		d.warnings = append(d.warnings, d.position(tk).problem(path, "is changed by cloud-init, which reads YAML 1.1", "put the value in quotes"))
	}
}
