#!/bin/sh
# Bakes firstboot into a disk image and seals the image, without booting it:
#
#   firstboot.sh IMAGE PACKAGE CONFIG
#   firstboot.sh debian-12.qcow2 firstboot.deb my.yaml
set -eu

[ $# -eq 3 ] || {
	sed -n 's/^#   //p' "$0" >&2
	exit 2
}
image=$1 package=$2 config=$3

case $package in
*.deb) name=firstboot.deb install='dpkg --force-confold -i' ;;
*.rpm) name=firstboot.rpm install='rpm -U --replacepkgs' ;;
*)
	echo "cannot install $package: it is not a .deb or .rpm" >&2
	exit 2
	;;
esac

# --selinux-relabel has no effect on an image without SELinux.
virt-customize -a "$image" --no-network --no-logfile \
	--upload "$package:/root/$name" \
	--upload "$config:/root/firstboot.yaml" \
	--run-command "$install /root/$name" \
	--run-command 'firstboot bake --this-machine --config /root/firstboot.yaml' \
	--delete "/root/$name" --delete /root/firstboot.yaml \
	--run-command 'firstboot seal --this-machine --yes && firstboot seal --check' \
	--selinux-relabel
