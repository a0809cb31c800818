// Package scenarios tells what happens to hosts on other days than a fine one:
// etcd that is late, reboots, power cuts, wrong files, changed pools, names that
// are taken. Each story is a test with the build tag lab, on real machines with
// real parts. docs/scenarios.md is its table of contents.
//
// A machine needs minutes to join, so several stories are told in one lab: the
// end of one is the beginning of the next.
package scenarios
