package config

import _ "embed"

//go:embed example.yaml
var example string

// Example is a commented configuration that validates as it stands; what is
// commented out shows a default, or how it is written.
func Example() string { return example }
