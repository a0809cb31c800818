package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// DocumentSchema is the number of the JSON documents' schema: every document has
// it in the key "schema". It changes when a key changes its meaning or goes away.
const DocumentSchema = 1

// Document returns v, which must become a JSON object, as one JSON document for
// other programs.
func Document(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot write JSON: %w", err)
	}
	rest, isObject := bytes.CutPrefix(body, []byte("{"))
	if !isObject {
		return nil, errors.New("cannot write JSON: the document is not an object")
	}
	var document bytes.Buffer
	fmt.Fprintf(&document, `{"schema":%d`, DocumentSchema)
	if !bytes.Equal(rest, []byte("}")) {
		document.WriteByte(',')
	}
	document.Write(rest)
	var indented bytes.Buffer
	if err := json.Indent(&indented, document.Bytes(), "", "  "); err != nil {
		return nil, fmt.Errorf("cannot write JSON: %w", err)
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}
