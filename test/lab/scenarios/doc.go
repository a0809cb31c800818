// Package scenarios tests firstboot in adverse conditions on virtual machines: a
// late etcd, reboots, power cuts, wrong files, changed pools, node names that are
// in use. The tests have the build tag lab. docs/scenarios.md lists them.
//
// A machine needs minutes to join. Therefore several scenarios are steps of one
// test with one lab, and each step starts where the previous one ended.
package scenarios
