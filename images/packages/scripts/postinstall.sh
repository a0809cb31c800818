#!/bin/sh
# Enables firstboot, as its preset says, when it is new here: an upgrade leaves
# what the machine's owner decided. Nothing is started: the next boot does that,
# so that installing the package into an image runs nothing of it.
set -eu

# dpkg calls: configure [OLD-VERSION]; rpm calls: 1 (new) or 2 (upgrade).
new=no
case "${1:-}" in
configure) [ -n "${2:-}" ] || new=yes ;;
1) new=yes ;;
esac

# What systemctl would make, for an image that gets its systemd later.
link() {
	mkdir -p /etc/systemd/system/multi-user.target.wants
	for unit in firstboot.service firstboot-complete.target; do
		ln -sf "/usr/lib/systemd/system/$unit" "/etc/systemd/system/multi-user.target.wants/$unit"
	done
}

if [ "$new" = yes ]; then
	# Offline: on the files alone, whether or not a systemd runs here.
	SYSTEMD_OFFLINE=1 systemctl preset firstboot.service firstboot-complete.target >/dev/null 2>&1 || link
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
