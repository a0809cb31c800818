package config

import (
	"strings"
	"unicode"

	"github.com/agext/levenshtein"
)

// suggest returns a hint that names the known word most similar to word, or ""
// if none is similar.
func suggest(word string, known []string) string {
	if match := closest(word, known); match != "" {
		return didYouMean(match)
	}
	return ""
}

func didYouMean(s string) string { return "did you mean " + quote(s) + "?" }

// closest returns the known word with the smallest edit distance, ignoring case
// and separators (block_size, BlockSize). It returns "" if more than a third of
// the letters differ; in a short word up to two may differ.
func closest(word string, known []string) string {
	separators := strings.NewReplacer("_", "", "-", "", " ", "")
	fold := func(s string) string { return strings.ToLower(separators.Replace(s)) }
	best, limit := "", 1+max(min(2, len(word)/2), len(word)/3)
	for _, k := range known {
		d := levenshtein.Distance(fold(word), fold(k), nil)
		if d < limit {
			best, limit = k, d
		}
	}
	return best
}

// suggestKey returns a hint for an unknown key: a similar key in the same
// section, or a key of the same name in another section.
func suggestKey(section, name string) string {
	if hint := suggest(name, childNames(section)); hint != "" {
		return hint
	}
	for _, k := range schema() {
		parent, leaf, _ := strings.Cut(k.path, ".")
		if leaf == name && parent != section {
			return didYouMean(k.path)
		}
	}
	return ""
}

// quote returns a value in quotes, for a message. It cuts it at 80 characters
// and replaces characters that are unsafe on a terminal. It must not be used
// for secrets.
func quote(s string) string {
	runes := []rune(strings.Map(printable, strings.ToValidUTF8(s, "?")))
	if len(runes) > 80 {
		return `"` + string(runes[:80]) + `…"`
	}
	return `"` + string(runes) + `"`
}

// printable replaces characters that are not printable.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}
