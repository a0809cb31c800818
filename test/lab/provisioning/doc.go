// Package provisioning tests all provisioning methods with the same configuration:
// cloud-init, Ignition, PXE (a golden image is written to an empty disk), and
// clones of a complete host. It is a single test with the build tag lab, because a
// machine needs minutes to join. All hosts join the same cluster. A second test,
// Ignition on Debian 13, has the tag soak as well.
// docs/scenarios.md lists the steps.
package provisioning
