#!/bin/sh
# Installs the Debian packages that the lab, the tests and `make lint` need,
# and of these only the missing ones; says nothing when none is missing.
#
#   install-packages.sh [PACKAGE...]  install what is missing (needs root), of
#                                     these packages as well
#   install-packages.sh --missing     only print the names of what is missing
#
# Services that come with a package (etcd, bird) are neither started nor
# enabled: the lab runs its own, in its own network namespace.
set -eu

# One package a line, and what it is for.
packages() {
	sed -e 's/#.*//' -e '/^[[:space:]]*$/d' <<'LIST' | awk '{print $1}'
ca-certificates     # fetching over https
cpio                # the live root of a netboot, as an initrd
dnsmasq-base        # DHCP for a netboot
e2fsprogs           # the disks' file system: mkfs.ext4, debugfs
etcd-server         # the etcd of the lab and of integration tests
extlinux            # the boot loader of the golden image that a netboot installs
fdisk               # partitions on a disk image
gcc                 # the race detector
gpg                 # signs packages and configurations in tests
gpg-agent           # without which gpg makes no signature
ignition            # the real one, applied to a root folder
ipxe-qemu           # iPXE, in the ROM of the machines' network cards
iproute2            # network namespace, bridge, taps
kmod                # the tap and bridge modules of this machine's kernel
libc6-dev           # the race detector
mmdebstrap          # the root file system of the golden image
openssh-client      # the lab's way into its machines
packer              # the recipe for it, against a running machine
policycoreutils     # setfiles, which Debian's Ignition calls
qemu-system-x86     # the machines
qemu-utils          # their disks
rpm                 # RPM packages: made, and installed in tests
shellcheck          # make lint
systemd-container   # systemd as PID 1 in tests of the units
xorriso             # reads the seed disks that firstboot makes
zstd                # packs disk images and initrds
LIST
}

missing() {
	{
		packages
		[ $# -eq 0 ] || printf '%s\n' "$@"
	} | while read -r name; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) || status=
		[ "$status" = installed ] || printf '%s\n' "$name"
	done
}

# Runs apt-get; what it prints is shown only if it fails.
apt() {
	log=$(mktemp)
	if ! DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1; then
		cat "$log" >&2
		rm -f "$log"
		printf 'cannot install packages: apt-get %s failed, see above\n' "$1" >&2
		exit 1
	fi
	rm -f "$log"
}

# The services of the packages in $1 that are new here, as unit names.
services() {
	for name in $1; do
		dpkg-query -L "$name" 2>/dev/null || true
	done | sed -n 's,^/\(usr/\)\?lib/systemd/system/\([^/@]*\.service\)$,\2,p'
}

# Keeps maintainer scripts from starting services while $@ runs, as
# invoke-rc.d(8) says; a policy that the machine's owner made is kept.
without_services() {
	policy=/usr/sbin/policy-rc.d
	if [ -e "$policy" ]; then
		"$@"
		return
	fi
	trap 'rm -f "$policy"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	"$@"
	rm -f "$policy"
	trap - EXIT INT TERM
}

only=
if [ "${1:-}" = --missing ]; then
	only=yes
	shift
fi
names=$(missing "$@" | tr '\n' ' ')
names=${names% }
if [ -n "$only" ]; then
	[ -z "$names" ] || printf '%s\n' "$names"
	exit 0
fi
[ -n "$names" ] || exit 0
if ! command -v apt-get >/dev/null; then
	printf 'cannot install %s: this machine has no apt-get (the lab runs on Debian 12 or newer)\n' "$names" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	printf 'cannot install packages: not root. As root:\n  apt-get install --no-install-recommends %s\n' "$names" >&2
	exit 1
fi
printf 'installing what the lab and the tests need: %s\n' "$names"
printf '  package lists ...\n'
apt update
printf '  packages (a minute or two) ...\n'
# shellcheck disable=SC2086 # names are words
without_services apt install -y --no-install-recommends $names
if [ -d /run/systemd/system ]; then
	for unit in $(services "$names"); do
		systemctl disable --quiet "$unit" 2>/dev/null || true
	done
fi
printf '  done\n'
