#!/bin/sh
# What firstboot made on a host stays: `firstboot reset`, before, takes it away.
set -eu

if [ "${1:-}" = purge ]; then
	for unit in firstboot.service firstboot-complete.target; do
		rm -f "/etc/systemd/system/multi-user.target.wants/$unit"
	done
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
