//go:build !integration

package stages_test

// everyStep is true in the integration tests: the crash matrix tests every step,
// and tests that need etcd fail if it is not installed. Otherwise the matrix
// tests one step in stride.
const (
	everyStep = false
	stride    = 7
)
