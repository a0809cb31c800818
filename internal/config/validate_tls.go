package config

import "strings"

const (
	userHint      = "etcd's user is the CN of the client certificate: set etcd.certFile and etcd.keyFile"
	passwordCause = "eru-minions cannot use a password: its second etcd client does not log in"
	globalCause   = "needs http endpoints: Docker's cluster-store and the v2 API of etcd are used without TLS"
)

// isHTTPS reports whether an endpoint uses TLS.
func isHTTPS(endpoint string) bool { return strings.HasPrefix(strings.ToLower(endpoint), "https://") }

// TLS reports whether the hosts use TLS for etcd. Validation refuses a mixture.
func (e Etcd) TLS() bool { return len(e.Endpoints) > 0 && isHTTPS(e.Endpoints[0]) }

// etcdFiles checks the paths of the files for TLS. Their contents are examined
// when they are used: they may come to the host later than its configuration.
func (v *validator) etcdFiles() {
	c := v.cfg.Etcd
	for _, f := range []struct{ path, name, other, otherName string }{
		{"etcd.caFile", c.CAFile, c.CAFile, ""},
		{"etcd.certFile", c.CertFile, c.KeyFile, "etcd.keyFile"},
		{"etcd.keyFile", c.KeyFile, c.CertFile, "etcd.certFile"},
	} {
		switch {
		case f.name == "":
		case !cleanAbsolute(f.name):
			v.fail(f.path, "must be the absolute path of a PEM file", "")
		case f.other == "":
			v.fail(f.path, "needs "+f.otherName, "")
		case len(c.Endpoints) > 0 && !c.TLS():
			v.fail(f.path, "needs https endpoints", "write the endpoints as https://HOST:2379")
		}
	}
}

// etcdUser checks the user of etcd. The plugin can only be one by its
// certificate, which the tunnel presents for it.
func (v *validator) etcdUser() {
	c := v.cfg.Etcd
	if c.PasswordFile != "" {
		v.fail("etcd.passwordFile", passwordCause, userHint)
	}
	switch {
	case c.Username == "":
	case c.CertFile == "":
		v.fail("etcd.username", "needs etcd.certFile", userHint)
	case v.commonName != nil:
		if cn, err := v.commonName(c.CertFile); err == nil && cn != c.Username {
			v.fail("etcd.username", quote(c.Username)+" is not the CN of "+c.CertFile+", which is "+quote(cn),
				"etcd's user is the CN of the client certificate: correct etcd.username, or use the certificate of that user")
		}
	}
}
