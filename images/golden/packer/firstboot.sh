#!/bin/sh
# Bakes firstboot into the machine that Packer has booted, as its last
# provisioner: before it, a file provisioner puts into /tmp the package
# (firstboot.deb or firstboot.rpm) and the configuration (firstboot.yaml).
set -eu

if [ -e /tmp/firstboot.deb ]; then
	dpkg --force-confold -i /tmp/firstboot.deb
else
	rpm -U --replacepkgs /tmp/firstboot.rpm
fi
firstboot bake --this-machine --config /tmp/firstboot.yaml
rm -f /tmp/firstboot.deb /tmp/firstboot.rpm /tmp/firstboot.yaml

# Nothing may run after this but the power-off.
firstboot seal --yes
firstboot seal --check
