package ignition

import (
	"fmt"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_3/types"

	"github.com/projecteru2/firstboot/internal/secret"
)

// unverified returns a warning for each remote resource without a hash.
func unverified(c types.Config) []string {
	var all []string
	check := func(name string, r types.Resource) {
		if r.Source == nil || *r.Source == "" || strings.HasPrefix(*r.Source, "data:") || r.Verification.Hash != nil {
			return
		}
		all = append(all, fmt.Sprintf("%s is fetched from %s but not verified: add a verification.hash", name, secret.URL(*r.Source)))
	}
	check("ignition.config.replace", c.Ignition.Config.Replace)
	for _, r := range c.Ignition.Config.Merge {
		check("ignition.config.merge", r)
	}
	for _, r := range c.Ignition.Security.TLS.CertificateAuthorities {
		check("a certificate authority", r)
	}
	for _, f := range c.Storage.Files {
		check(f.Path, f.Contents)
		for _, r := range f.Append {
			check(f.Path, r)
		}
	}
	for _, l := range c.Storage.Luks {
		check("the key of "+l.Name, l.KeyFile)
	}
	return all
}
