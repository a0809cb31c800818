package secret

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Omitted is what the zero Mask returns for any text.
const Omitted = "(omitted: the configured secrets are not known)"

const (
	// shortSecret is the length, in bytes, up to which a secret is masked only
	// where it stands alone. Masking every "1" would make text unreadable and
	// would protect nothing.
	shortSecret = 3
	// shortestPrefix is the length, in bytes, of the shortest beginning of a
	// secret that is masked before an ellipsis.
	shortestPrefix = 4
	ellipsis       = "…"
)

// Mask removes secrets from text, such as the output of a command. The zero
// Mask does not know the secrets and omits all text.
type Mask struct {
	known bool
	forms []string // what to remove
}

// NewMask returns a Mask of these secrets, of any length. It also removes a
// secret as JSON, a URL or a quoted string contains it, and the beginning of a
// secret that truncated text ends with.
func NewMask(secrets ...string) Mask {
	var forms []string
	for _, s := range secrets {
		forms = append(forms, formsOf(s)...)
		forms = append(forms, formsOf(strings.TrimSpace(s))...)
	}
	slices.Sort(forms)
	forms = slices.DeleteFunc(slices.Compact(forms), func(s string) bool { return s == "" })
	return Mask{known: true, forms: forms}
}

// formsOf returns how a secret may be written in text.
func formsOf(s string) []string {
	quoted := strconv.Quote(s)
	forms := []string{s, url.QueryEscape(s), url.PathEscape(s), quoted[1 : len(quoted)-1],
		strings.ReplaceAll(s, "'", "''"), strings.ReplaceAll(s, "'", `'\''`)}
	if data, err := json.Marshal(s); err == nil {
		forms = append(forms, string(data[1:len(data)-1]))
	}
	return forms
}

// span is a part of a text, from start up to end.
type span struct{ start, end int }

// Text returns text without the secrets.
func (m Mask) Text(text string) string {
	switch {
	case text == "":
		return ""
	case !m.known:
		return Omitted
	}
	spans := m.find(text)
	if len(spans) == 0 {
		return text
	}
	// Secrets may contain or overlap each other: the union is masked.
	slices.SortFunc(spans, func(a, b span) int { return a.start - b.start })
	var b strings.Builder
	at := 0
	for i := 0; i < len(spans); {
		whole := spans[i]
		for ; i < len(spans) && spans[i].start <= whole.end; i++ {
			whole.end = max(whole.end, spans[i].end)
		}
		b.WriteString(text[at:whole.start] + hidden)
		at = whole.end
	}
	return b.String() + text[at:]
}

// find returns where the text contains a secret, in any order.
func (m Mask) find(text string) []span {
	var spans []span
	for _, form := range m.forms {
		for at := 0; ; at++ {
			next := strings.Index(text[at:], form)
			if next < 0 {
				break
			}
			at += next
			if len(form) > shortSecret || standsAlone(text, at, at+len(form)) {
				spans = append(spans, span{at, at + len(form)})
			}
		}
	}
	return append(spans, m.truncated(text)...)
}

// truncated returns the beginnings of secrets that are followed by an ellipsis.
func (m Mask) truncated(text string) []span {
	var spans []span
	for from := 0; ; {
		next := strings.Index(text[from:], ellipsis)
		if next < 0 {
			return spans
		}
		end := from + next
		for _, form := range m.forms {
			for n := min(len(form)-1, end); n >= shortestPrefix; n-- {
				if text[end-n:end] == form[:n] {
					spans = append(spans, span{end - n, end})
					break
				}
			}
		}
		from = end + len(ellipsis)
	}
}

// standsAlone reports whether text[start:end] is not part of a longer word or
// number. In a number, a dot counts as a digit: 10.0.0.1.
func standsAlone(text string, start, end int) bool {
	number := strings.Trim(text[start:end], "0123456789") == ""
	before := start > 0 && isWord(text[start-1])
	after := end < len(text) && isWord(text[end])
	if number {
		before = before || start > 1 && text[start-1] == '.' && isWord(text[start-2])
		after = after || end+1 < len(text) && text[end] == '.' && isWord(text[end+1])
	}
	return !before && !after
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
