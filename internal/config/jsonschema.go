package config

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/projecteru2/firstboot/internal/secret"
)

// Schema returns the JSON Schema (draft 2020-12) of a complete configuration.
// It is generated from the table that the decoder uses, so it rejects the same
// keys and types. Only Load checks rules that involve several values. If a file
// is one of several sources, only Load can check the required keys.
func Schema() ([]byte, error) {
	sections := map[string]any{}
	for _, k := range schema() {
		section, name := cutLast(k.path)
		if section == "" {
			sections[name] = k.jsonSchema()
			continue
		}
		if sections[section] == nil {
			sections[section] = object(map[string]any{})
		}
		properties := sections[section].(map[string]any)["properties"].(map[string]any)
		properties[name] = k.jsonSchema()
	}
	for _, path := range required() {
		section, name := cutLast(path)
		s := sections[section].(map[string]any)
		s["required"] = []string{name}
		s["type"] = "object"
	}
	root := object(sections)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "firstboot configuration"
	root["type"] = "object"
	root["required"] = requiredSections()
	return json.MarshalIndent(root, "", "  ")
}

// object returns the schema of a mapping with only these keys. null is allowed
// for a mapping whose keys are all commented out.
func object(properties map[string]any) map[string]any {
	return map[string]any{
		"type":                 []string{"object", "null"},
		"properties":           properties,
		"additionalProperties": false,
	}
}

func requiredSections() []string {
	var names []string
	for _, path := range required() {
		section, _, _ := strings.Cut(path, ".")
		names = append(names, section)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// jsonSchema returns the schema of one key.
func (k key) jsonSchema() map[string]any {
	s := k.jsonType()
	s["description"] = k.help
	if fallback, ok := k.fallback(); ok {
		s["default"] = fallback
	}
	return s
}

func (k key) jsonType() map[string]any {
	switch k.field(new(Config)).(type) {
	case *[]string:
		item := map[string]any{"type": "string"}
		if k.values != nil {
			item["enum"] = k.values
		}
		return map[string]any{"type": "array", "items": item}
	case *map[string]string, *map[string]secret.Value:
		return map[string]any{
			"type":                 []string{"object", "null"},
			"propertyNames":        map[string]any{"pattern": k.namePattern()},
			"additionalProperties": map[string]any{"type": []string{"string", "number", "boolean"}},
		}
	case *bool:
		return map[string]any{"type": "boolean"}
	case *uint32:
		return map[string]any{"type": "integer", "minimum": 1, "maximum": uint32(1<<32 - 1)}
	case *int:
		return k.jsonInteger()
	case *time.Duration:
		return map[string]any{"anyOf": []any{
			map[string]any{"type": "string", "pattern": `^[+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`},
			map[string]any{"const": 0},
		}}
	case *netip.Prefix:
		return map[string]any{"type": "string", "pattern": `^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$`}
	}
	s := map[string]any{"type": "string"}
	if k.values != nil {
		s["enum"] = k.values
	}
	return s
}

// jsonInteger has the same limits as validate.
func (k key) jsonInteger() map[string]any {
	if k.path == "pool.blockSize" {
		return map[string]any{"type": "integer", "minimum": 20, "maximum": 32}
	}
	return map[string]any{"type": "integer", "minimum": 1, "maximum": 1<<31 - 1}
}

// fallback returns the key's default, and whether it is not the zero value.
func (k key) fallback() (any, bool) {
	c := Default()
	if m, ok := k.field(c).(*map[string]string); ok {
		return *m, true
	}
	if k.isMap() {
		return nil, false
	}
	v := deref(k.field(c))
	return json.RawMessage(encode(v, redact)), !isZero(v)
}
