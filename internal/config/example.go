package config

import _ "embed"

//go:embed example.yaml
var example string

// Example returns a valid configuration with comments. The keys that are
// commented out show their default or an example value.
func Example() string { return example }
