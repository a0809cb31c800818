package config

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/projecteru2/firstboot/internal/secret"
)

// scalar is one value as it is written in a source.
type scalar struct {
	text string
	kind scalarKind
}

// scalarKind is the type of a scalar in the source's syntax.
type scalarKind int

const (
	textScalar    scalarKind = iota
	integerScalar            // 1, 0x1F
	floatScalar              // 3.23, .inf
	boolScalar               // true, false
	untypedScalar            // from the kernel command line, which has no types
)

// String completes "must be …, not …".
func (k scalarKind) String() string {
	return [...]string{"text", "a number", "a number", "true or false", "text"}[k]
}

// valueError is why a scalar is not valid for a key. The caller adds the
// position.
type valueError struct{ message, hint string }

// convert converts a scalar to the type of a field, which is a pointer as the
// schema returns it.
func convert(field any, s scalar) (any, *valueError) {
	if f := checkText(s.text); f != nil {
		return nil, f
	}
	switch field.(type) {
	case *string, *[]string: // for a list: one item
		return asText(s)
	case *secret.URL:
		v, f := asText(s)
		return secret.URL(v), f
	case *secret.Webhook:
		v, f := asText(s)
		return secret.Webhook(v), f
	case *map[string]string:
		return asSysctl(s), nil
	case *map[string]secret.Value:
		return secret.Value(s.text), nil
	case *bool:
		return asBool(s)
	case *int:
		n, f := asInteger(s, 31)
		return int(n), f
	case *uint32:
		n, f := asInteger(s, 32)
		return uint32(n), f
	case *time.Duration:
		return asDuration(s)
	case *netip.Prefix:
		return asPrefix(s)
	}
	panic("a field's type is missing in convert")
}

// checkText rejects line breaks and other control characters. They would break
// the files that values are written to.
func checkText(s string) *valueError {
	if strings.ContainsAny(s, "\n\r\u0085\u2028\u2029") {
		return &valueError{"must not contain a line break", "write it on one line"}
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return &valueError{"must not contain control characters", ""}
	}
	return nil
}

func asText(s scalar) (string, *valueError) {
	if s.kind == textScalar || s.kind == untypedScalar {
		return s.text, nil
	}
	return "", &valueError{"must be text, not " + s.kind.String(), "put it in quotes"}
}

// asSysctl converts true and false to 1 and 0, as the kernel writes them.
func asSysctl(s scalar) string {
	switch {
	case s.kind == boolScalar && strings.EqualFold(s.text, "true"):
		return "1"
	case s.kind == boolScalar:
		return "0"
	}
	return s.text
}

func asBool(s scalar) (bool, *valueError) {
	if s.kind == boolScalar || s.kind == untypedScalar {
		switch strings.ToLower(s.text) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	f := &valueError{"must be true or false", ""}
	switch strings.ToLower(s.text) {
	case "yes", "on", "1", "true":
		f.hint = "write true"
	case "no", "off", "0", "false":
		f.hint = "write false"
	}
	return false, f
}

// isDecimal reports whether s is a whole number without a sign, prefix or
// leading zero. YAML parsers disagree about 010 and 0x10.
func isDecimal(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == "" && (s == "0" || s[0] != '0')
}

func asInteger(s scalar, bits int) (uint64, *valueError) {
	if s.kind != integerScalar && s.kind != untypedScalar {
		f := &valueError{"must be a whole number, not " + s.kind.String(), ""}
		if s.kind == floatScalar {
			f.message = "must be a whole number"
		} else if isDecimal(s.text) {
			f.hint = "remove the quotes"
		}
		return 0, f
	}
	if !isDecimal(s.text) {
		return 0, &valueError{"must be a whole number in decimal notation", ""}
	}
	n, err := strconv.ParseUint(s.text, 10, bits)
	if err != nil {
		return 0, &valueError{"is too large", "at most " + strconv.FormatUint(1<<bits-1, 10)}
	}
	return n, nil
}

func asDuration(s scalar) (time.Duration, *valueError) {
	if s.kind == boolScalar {
		return 0, &valueError{"must be a duration such as 10m, not true or false", ""}
	}
	d, err := time.ParseDuration(s.text)
	if err == nil {
		return d, nil
	}
	f := &valueError{"must be a duration such as 90s, 10m or 1h30m", ""}
	if isDecimal(s.text) {
		f.hint = didYouMean(s.text + "s")
	}
	return 0, f
}

func asPrefix(s scalar) (netip.Prefix, *valueError) {
	if s.kind != textScalar && s.kind != untypedScalar {
		return netip.Prefix{}, &valueError{"must be a CIDR such as 10.213.0.0/16", ""}
	}
	if s.text == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s.text)
	if err == nil {
		return p, nil
	}
	f := &valueError{quote(s.text) + " is not a CIDR such as 10.213.0.0/16", ""}
	if _, err := netip.ParseAddr(s.text); err == nil {
		f.hint = "add the prefix length, such as /16"
	}
	return netip.Prefix{}, f
}
