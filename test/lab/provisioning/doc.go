// Package provisioning tells how one configuration reaches hosts by every way in:
// cloud-init, Ignition, a golden image that a netboot puts on an empty disk, and
// clones of a host that is complete. It is one test with the build tag lab, as a
// machine needs minutes to join: all of its hosts are members of one cluster.
// docs/scenarios.md is its table of contents.
package provisioning
