// Command firstboot turns a bare host into a member of a Calico network for
// Docker at its first boot.
package main

import "os"

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}
