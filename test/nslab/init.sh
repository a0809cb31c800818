#!/bin/bash
# PID 1 of a host: makes the host's root directory from an overlay, moves into it,
# and then waits for the end. It runs in namespaces of its own.
#
#   init.sh NAME LOWER DIR
#
# DIR holds what survives a power cut: upper, work, docker, containerd.
set -eu
name=$1 lower=$2 dir=$3
mount --make-rprivate /
hostname "$name"
root=$dir/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$root"
mkdir -p "$root/oldroot" "$root/var/lib/docker" "$root/var/lib/containerd"
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
# On a machine with both versions Docker 29 would take this one for the only one.
if mountpoint -q "$root/sys/fs/cgroup/unified"; then
	umount "$root/sys/fs/cgroup/unified"
fi
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$dir/docker" "$root/var/lib/docker"
mount --bind "$dir/containerd" "$root/var/lib/containerd"
cd "$root"
pivot_root . oldroot
umount -l /oldroot
echo "$name" >/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >/etc/hosts
mkdir -p /run/lock /run/lab
echo ready >/run/lab/ready
# bash reaps the processes that lose their parent.
trap : TERM
while :; do
	sleep 1000 &
	wait $! || :
done
