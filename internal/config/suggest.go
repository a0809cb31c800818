package config

import (
	"strings"
	"unicode"

	"github.com/agext/levenshtein"
)

// suggest is the hint for a word that is not one of known: the one that was
// probably meant, or nothing.
func suggest(word string, known []string) string {
	if meant := closest(word, known); meant != "" {
		return didYouMean(meant)
	}
	return ""
}

func didYouMean(s string) string { return "did you mean " + quote(s) + "?" }

// closest is the known word that differs only in case and separators
// (block_size, BlockSize), else the one within a third of the word's letters
// (two swapped letters of a short word count as two), else empty.
func closest(word string, known []string) string {
	plain := strings.NewReplacer("_", "", "-", "", " ", "")
	fold := func(s string) string { return strings.ToLower(plain.Replace(s)) }
	best, limit := "", 1+max(min(2, len(word)/2), len(word)/3)
	for _, k := range known {
		d := levenshtein.Distance(fold(word), fold(k), nil)
		if d < limit {
			best, limit = k, d
		}
	}
	return best
}

// suggestKey looks for an unknown key among its neighbours, then for one of
// its name in any section.
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

// quote shows a short piece of a value that is no secret; longer ones are cut
// at 80 characters, and what could spoil a terminal is replaced.
func quote(s string) string {
	runes := []rune(strings.Map(printable, strings.ToValidUTF8(s, "?")))
	if len(runes) > 80 {
		return `"` + string(runes[:80]) + `…"`
	}
	return `"` + string(runes) + `"`
}

// printable replaces what is no letter, mark, number, punctuation or symbol.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}
