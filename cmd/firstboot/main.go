// Command firstboot turns a bare host into a member of a Calico network for
// Docker at its first boot.
package main

import (
	"os"
	"syscall"

	"github.com/projecteru2/firstboot/internal/report"
)

func main() {
	// Commands such as rpm and systemctl inherit the umask. A strict one of the
	// caller would make what they install unreadable.
	syscall.Umask(0o022)
	stdout, stderr, closeOutputs := report.Outputs()
	code := execute(os.Args[1:], stdout, stderr)
	closeOutputs()
	os.Exit(code)
}
