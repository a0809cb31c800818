#!/bin/sh
# Disables firstboot on removal (rpm calls: 0), not on an upgrade. Stops nothing:
# a host that has joined needs the program only to wait for the network plugin at
# boot. A deb is disabled on purge only, so that a reinstalled package keeps the
# administrator's choice.
set -eu

if [ "${1:-}" = 0 ]; then
	SYSTEMD_OFFLINE=1 systemctl disable firstboot.service firstboot-complete.target >/dev/null 2>&1 || true
fi
