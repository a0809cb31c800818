#!/bin/sh
# Disables firstboot when it goes for good (rpm calls: 0), not on an upgrade.
# Nothing is stopped: a host that has joined needs firstboot's program only to
# wait for the network plugin at boot. dpkg's packages are disabled when they
# are purged, so that one that comes back is as it was.
set -eu

if [ "${1:-}" = 0 ]; then
	SYSTEMD_OFFLINE=1 systemctl disable firstboot.service firstboot-complete.target >/dev/null 2>&1 || true
fi
