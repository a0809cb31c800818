#!/bin/sh
# Keeps what firstboot made on a host. To remove it, run `firstboot reset` before
# you remove the package.
set -eu

if [ "${1:-}" = purge ]; then
	for unit in firstboot.service firstboot-complete.target; do
		rm -f "/etc/systemd/system/multi-user.target.wants/$unit"
	done
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
