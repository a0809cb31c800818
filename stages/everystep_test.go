//go:build !integration

package stages_test

// everyStep makes the crash matrix complete, and an etcd necessary: these are
// the integration tests. Without it, the matrix tries one step in stride.
const (
	everyStep = false
	stride    = 7
)
