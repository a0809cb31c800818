package ignition

import (
	"fmt"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_3/types"

	"github.com/projecteru2/firstboot/internal/config"
)

// unverified names the remote resources that have no hash to be verified by.
func unverified(c types.Config) []string {
	var all []string
	look := func(what string, r types.Resource) {
		if r.Source == nil || *r.Source == "" || strings.HasPrefix(*r.Source, "data:") || r.Verification.Hash != nil {
			return
		}
		all = append(all, fmt.Sprintf("%s is fetched from %s and not verified: give it a verification.hash", what, config.URL(*r.Source)))
	}
	look("ignition.config.replace", c.Ignition.Config.Replace)
	for _, r := range c.Ignition.Config.Merge {
		look("ignition.config.merge", r)
	}
	for _, r := range c.Ignition.Security.TLS.CertificateAuthorities {
		look("a certificate authority", r)
	}
	for _, f := range c.Storage.Files {
		look(f.Path, f.Contents)
		for _, r := range f.Append {
			look(f.Path, r)
		}
	}
	for _, l := range c.Storage.Luks {
		look("the key of "+l.Name, l.KeyFile)
	}
	return all
}
