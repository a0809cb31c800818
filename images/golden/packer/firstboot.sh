#!/bin/sh
# Bakes and seals the machine that Packer has booted. It must be the last
# provisioner. Before it, a file provisioner uploads to /tmp the package
# (firstboot.deb or firstboot.rpm) and the configuration (firstboot.yaml).
set -eu

if [ -e /tmp/firstboot.deb ]; then
	dpkg --force-confold -i /tmp/firstboot.deb
else
	rpm -U --replacepkgs /tmp/firstboot.rpm
fi
firstboot bake --this-machine --config /tmp/firstboot.yaml
rm -f /tmp/firstboot.deb /tmp/firstboot.rpm /tmp/firstboot.yaml

# Only the power-off may follow.
firstboot seal --this-machine --yes
firstboot seal --check
