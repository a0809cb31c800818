#!/bin/sh
# Applies firstboot's preset on a new installation; an upgrade keeps the
# administrator's choice. Starts nothing, because the package may be installed
# into an image: the next boot starts firstboot.
set -eu

# dpkg calls: configure [OLD-VERSION]; rpm calls: 1 (new) or 2 (upgrade).
new=no
case "${1:-}" in
configure) [ -n "${2:-}" ] || new=yes ;;
1) new=yes ;;
esac

# Makes the links that systemctl would make, for an image without systemd so far.
link() {
	mkdir -p /etc/systemd/system/multi-user.target.wants
	for unit in firstboot.service firstboot-complete.target; do
		ln -sf "/usr/lib/systemd/system/$unit" "/etc/systemd/system/multi-user.target.wants/$unit"
	done
}

if [ "$new" = yes ]; then
	# Offline: change files only, even if systemd is running.
	SYSTEMD_OFFLINE=1 systemctl preset firstboot.service firstboot-complete.target >/dev/null 2>&1 || link
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
