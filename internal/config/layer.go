package config

import (
	"fmt"
	"maps"
)

// defaultSource is the origin of a value that no source sets.
const defaultSource = "default"

// position is where a value is written.
type position struct {
	source    string
	line, col int
	nameOnly  bool // origins show the source's name without line and column
}

// origin returns the position as Loaded.Origins shows it.
func (p position) origin() string {
	if p.nameOnly || p.line == 0 {
		return p.source
	}
	return fmt.Sprintf("%s:%d:%d", p.source, p.line, p.col)
}

// problem returns a Problem at this position.
func (p position) problem(path, message, hint string) Problem {
	return Problem{File: p.source, Line: p.line, Col: p.col, Path: path, Message: message, Hint: hint}
}

// value is one value as decoded from a source.
type value struct {
	data  any // as assign accepts it
	at    position
	items []position // the items' positions, if the value is a list
}

// layer maps the flat paths of one source ("sysctl.net.ipv4.ip_forward") to
// their values. Maps are therefore merged entry by entry; a list is replaced
// as a whole.
type layer map[string]value

// merge combines the layers; later layers win.
func merge(layers ...layer) layer {
	merged := layer{}
	for _, l := range layers {
		maps.Copy(merged, l)
	}
	return merged
}

// defaults returns the lowest layer.
func defaults() layer {
	l := layer{}
	for _, s := range flatten(Default()) {
		l[s.path] = value{data: s.value, at: position{source: defaultSource}}
	}
	return l
}

// withoutEntries returns the layer without entries of maps, such as sysctl.
func (l layer) withoutEntries() layer {
	rest := layer{}
	for path, v := range l {
		if _, entry, _ := findKey(path); entry == "" {
			rest[path] = v
		}
	}
	return rest
}

// config returns the layer as a Config.
func (l layer) config() *Config {
	c := &Config{}
	for path, v := range l {
		assign(c, path, v.data)
	}
	return c
}

// origins returns where each value came from.
func (l layer) origins() map[string]string {
	origins := make(map[string]string, len(l))
	for path, v := range l {
		origins[path] = v.at.origin()
	}
	return origins
}
