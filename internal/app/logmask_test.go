package app

import (
	"strings"
	"testing"
)

// FuzzRedactJSON: a text below a key that is not known is never shown.
func FuzzRedactJSON(f *testing.F) {
	for _, s := range []string{`{"x": "hidden"}`, `{"x": ["hidden"]}`, `{"x": {"y": [{"z": "hidden"}]}}`, `{"cluster-store": "etcd://hidden@h"}`, `{"x": "hidden"} {}`, `["hidden"]`, `"hidden"`, `{"x": "hidden"`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, key := range append(shownJSON, `"hidden":`) {
			if strings.Contains(string(data), key) {
				return
			}
		}
		if strings.Contains(string(data), `"hidden"`) && strings.Contains(redactJSON(data), `: "hidden"`) {
			t.Errorf("%s shows %s", data, redactJSON(data))
		}
	})
}
