package config

import (
	"fmt"
	"maps"
)

// place is where a value stands.
type position struct {
	source    string
	line, col int
	nameOnly  bool // the source is known by its name alone: its lines are no help
}

// origin is what Loaded.Origins says.
func (p position) origin() string {
	if p.nameOnly || p.line == 0 {
		return p.source
	}
	return fmt.Sprintf("%s:%d:%d", p.source, p.line, p.col)
}

// problem is one at this place.
func (p position) problem(path, message, hint string) Problem {
	return Problem{File: p.source, Line: p.line, Col: p.col, Path: path, Message: message, Hint: hint}
}

// value is one value as decoded from a source, ready for assign.
type value struct {
	data  any
	at    position
	items []position // of a list
}

// layer is one source, flat: "sysctl.net.ipv4.ip_forward" → its value. So a
// map is merged entry by entry, while a list is replaced whole.
type layer map[string]value

// merge lays each layer over the ones before.
func merge(layers ...layer) layer {
	merged := layer{}
	for _, l := range layers {
		maps.Copy(merged, l)
	}
	return merged
}

// defaults is the lowest layer.
func defaults() layer {
	l := layer{}
	for _, s := range flatten(Default()) {
		l[s.path] = value{data: s.value, at: position{source: "default"}}
	}
	return l
}

// config is what a merged layer says.
func (l layer) config() *Config {
	c := &Config{}
	for path, v := range l {
		assign(c, path, v.data)
	}
	return c
}

// origins tells where each value came from.
func (l layer) origins() map[string]string {
	origins := make(map[string]string, len(l))
	for path, v := range l {
		origins[path] = v.at.origin()
	}
	return origins
}
