package golden

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/projecteru2/firstboot/internal/certificate"
	"github.com/projecteru2/firstboot/internal/config"
	"github.com/projecteru2/firstboot/internal/host"
	"github.com/projecteru2/firstboot/internal/state"
)

// This file finds a client certificate for etcd that was issued for one machine.

// clientCertificate returns etcd.certFile, if a name or address in it is the
// machine's own. A certificate that hosts share names their user in etcd.
func clientCertificate(h *host.Host) (*Identity, error) {
	written, err := config.LoadIncomplete(h.Root())
	if err != nil {
		return nil, err
	}
	all := []*config.Config{written}
	// The machine may have joined with a configuration that is in no file.
	if data, err := h.ReadFile(state.EffectivePath); err == nil {
		if used, err := config.LoadEffective(data); err == nil {
			all = append(all, used.Config)
		}
	}
	for _, c := range all {
		if found, err := boundCertificate(h, c); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// boundCertificate does so for one configuration.
func boundCertificate(h *host.Host, c *config.Config) (*Identity, error) {
	if c.Etcd.CertFile == "" {
		return nil, nil
	}
	data, err := h.ReadFile(c.Etcd.CertFile)
	if errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	if err != nil {
		return nil, nil //nolint:nilerr // it may come to each host later
	}
	own, err := ownNames(h, c.Host)
	if err != nil {
		return nil, err
	}
	for _, name := range certificate.Names(data) {
		if slices.ContainsFunc(own, func(o string) bool { return isSameName(name, o) }) {
			return &Identity{"etcd-certificate", c.Etcd.CertFile, "report",
				fmt.Sprintf("clones would be %q to etcd, which is this machine: replace the certificate by one that the hosts share, or remove it and its key", name), nil}, nil
		}
	}
	return nil, nil
}

// keepNames keeps the names of the machine in the image as long as the client
// certificate is there. Without them the next seal --check would not find it.
func keepNames(all []Identity, file string) {
	for i := range all {
		if all[i].Path == hostnamePath || all[i].Path == hostsPath {
			all[i].Action, all[i].apply = "report", nil
			all[i].Why += "; it stays until " + file + " is replaced or removed, because it shows whose certificate that is"
		}
	}
}

// ownNames returns the names and addresses of the machine whose image this is.
func ownNames(h *host.Host, c config.Host) ([]string, error) {
	static, err := hostnameOf(h)
	if err != nil {
		return nil, err
	}
	hosts, err := readText(h, hostsPath)
	if err != nil {
		return nil, err
	}
	own := slices.DeleteFunc([]string{static, c.Name, h.Hostname()}, func(name string) bool {
		return name == "" || config.IsLocalHostName(name)
	})
	for line := range strings.Lines(withoutComments(hosts)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && slices.ContainsFunc(fields[1:], func(name string) bool { return slices.Contains(own, name) }) {
			own = append(own, fields[0])
		}
	}
	live, err := liveAddresses(h)
	own = append(append(own, c.Address), live...)
	for i, name := range own {
		if address, err := netip.ParseAddr(name); err == nil { // as certificate.Names writes it
			own[i] = address.Unmap().WithZone("").String()
		}
	}
	return slices.DeleteFunc(own, func(name string) bool {
		address, err := netip.ParseAddr(name)
		return err == nil && address.IsLoopback()
	}), err
}

// liveAddresses returns the addresses of this machine, if it is the one to seal.
func liveAddresses(h *host.Host) ([]string, error) {
	if !h.Live() {
		return nil, nil
	}
	found, err := host.New(h.Root()).Network().Addresses()
	var all []string
	for _, a := range found {
		all = append(all, a.Prefix.Addr().String())
	}
	return all, err
}

// isSameName reports whether two names or addresses are the same. A host name is the
// same with and without its domain.
func isSameName(a, b string) bool {
	a, b = strings.ToLower(strings.TrimSuffix(a, ".")), strings.ToLower(strings.TrimSuffix(b, "."))
	return a != "" && b != "" && (a == b || strings.HasPrefix(a, b+".") || strings.HasPrefix(b, a+"."))
}
