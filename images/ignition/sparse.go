package ignition

import (
	"bytes"
	"encoding/json"

	"github.com/coreos/ignition/v2/config/v3_3/types"
)

// sparse returns a config as JSON values, without the empty objects that Ignition's
// types write.
func sparse(c types.Config) (map[string]any, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	tree, _ = prune(tree).(map[string]any)
	return tree, nil
}

// prune removes empty objects and lists, innermost first.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			if v[key] = prune(v[key]); v[key] == nil {
				delete(v, key)
			}
		}
		if len(v) == 0 {
			return nil
		}
		return v
	case []any:
		for i := range v {
			if v[i] = prune(v[i]); v[i] == nil {
				v[i] = map[string]any{} // keep the entry's position
			}
		}
		if len(v) == 0 {
			return nil
		}
		return v
	}
	return v
}
