package program

import (
	"os"
	"os/exec"
	"testing"
)

// AllVariable is the environment variable that `make test` sets: every program
// that a test needs is installed then, so a missing one is a failure.
const AllVariable = "FIRSTBOOT_TEST_ALL"

// Need returns the path of the program name. If it is not installed, the test
// is skipped with that reason, or fails under `make test`.
func Need(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv(AllVariable) != "":
		tb.Fatalf("%s is not installed; test/lab/install-packages.sh must install it", name)
	default:
		tb.Skipf("%s is not installed", name)
	}
	return ""
}
