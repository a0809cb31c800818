package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// DocumentSchema is the number of the JSON documents' schema. Every document has
// it in the key "schema". It grows when a key changes its meaning or is removed.
const DocumentSchema = 1

// Document returns v, which must become a JSON object, as an indented JSON
// document.
func Document(v any) ([]byte, error) {
	compact, err := CompactDocument(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("cannot write JSON: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// CompactDocument is like Document, but without white space.
func CompactDocument(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot write JSON: %w", err)
	}
	keys, isObject := bytes.CutPrefix(body, []byte("{"))
	if !isObject {
		return nil, errors.New("cannot write JSON: the document is not an object")
	}
	start := fmt.Sprintf(`{"schema":%d`, DocumentSchema)
	if !bytes.Equal(keys, []byte("}")) {
		start += ","
	}
	return append([]byte(start), keys...), nil
}
