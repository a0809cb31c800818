#!/bin/sh
# Installs the missing Debian packages that the lab, the tests and `make lint`
# need. Prints nothing if no package is missing.
#
#   install-packages.sh [PACKAGE...]  install missing packages (needs root), also
#                                     those that are given as arguments
#   install-packages.sh --missing     only print the names of the missing packages
#
# Services of the packages (etcd, bird) are neither started nor enabled: the lab
# runs its own in its network namespace.
set -eu

# One package per line, with its purpose.
packages() {
	sed -e 's/#.*//' -e '/^[[:space:]]*$/d' <<'LIST' | awk '{print $1}'
ca-certificates     # downloads over https
cpio                # packs the live system of a netboot as an initrd
dnsmasq-base        # DHCP and TFTP for a netboot
e2fsprogs           # file systems of disks: mkfs.ext4, debugfs
etcd-server         # etcd of the lab and of integration tests
extlinux            # boot loader of the golden image that a netboot installs
fdisk               # partitions disk images
gcc                 # the race detector
gpg                 # signs packages and configurations in tests
gpg-agent           # needed by gpg to sign
ignition            # applies Ignition configurations to a root directory
ipxe-qemu           # iPXE in the ROM of the machines' network interfaces
iproute2            # network namespace, bridge, taps
kmod                # loads the kernel modules tun and bridge
libc6-dev           # the race detector
mmdebstrap          # builds root file systems
openssh-client      # make demo-shell
packer              # runs the recipe for Packer against a machine
policycoreutils     # setfiles, which Debian's Ignition calls
qemu-system-x86     # runs the virtual machines
qemu-utils          # creates their disks
rpm                 # builds RPM packages, and installs them in tests
shellcheck          # make lint
systemd-container   # boots systemd as PID 1 in tests of the units
xorriso             # reads the seed disks that firstboot writes
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

# Runs apt-get. Its output is printed only if it fails.
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

# Prints the unit names of the services of the packages in $1.
services() {
	for name in $1; do
		dpkg-query -L "$name" 2>/dev/null || true
	done | sed -n 's,^/\(usr/\)\?lib/systemd/system/\([^/@]*\.service\)$,\2,p'
}

# Runs a command and prevents maintainer scripts from starting services meanwhile
# (see invoke-rc.d(8)). An existing policy of the machine's owner is kept.
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
printf 'installing packages for the lab and the tests: %s\n' "$names"
printf '  package lists ...\n'
apt update
printf '  packages (a minute or two) ...\n'
# shellcheck disable=SC2086 # split into words: package names
without_services apt install -y --no-install-recommends $names
if [ -d /run/systemd/system ]; then
	for unit in $(services "$names"); do
		systemctl disable --quiet "$unit" 2>/dev/null || true
	done
fi
printf '  done\n'
