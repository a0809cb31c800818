package config

// PreflightNames returns the names of the preflight findings that
// preflight.ignore can demote from an error to a warning, in the order of the
// checks.
func PreflightNames() []string {
	return []string{
		"architecture",
		"host-name",
		"localhost",
		"address",
		"clock",
		"disk-space",
		"default-route",
		"kernel-modules",
		"sysctl",
		"ipv6-in-use",
		"apparmor-parser",
		"forward-policy",
		"networkmanager",
		"baked-nodename",
		"bgp-port",
		"cidr-overlap",
		"docker-missing",
		"docker-version",
		"docker-runtime",
		"docker-cluster-store",
		"docker-userns",
		"foreign-containers",
		"containers-to-recreate",
		"artifact-missing",
		"image-by-tag",
		"rpm-missing",
		"etcd-v3",
		"etcd-certificate",
		"etcd-rights",
		"etcd-v2",
		"calico-version",
		"node-image-version",
		"node-name-taken",
		"pool-is-local",
		"own-network",
	}
}
