// Command firstboot turns a bare host into a member of a Calico network for
// Docker at its first boot.
package main

import (
	"os"

	"github.com/projecteru2/firstboot/internal/report"
)

func main() {
	stdout, stderr, closeOutputs := report.Outputs()
	code := execute(os.Args[1:], stdout, stderr)
	closeOutputs()
	os.Exit(code)
}
