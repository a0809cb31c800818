package golden

import "slices"

// Release is a release of Debian, named by its suite.
type Release string

// The releases of the lab's machines. Debian 12 has Docker 20.10 and runs
// without AppArmor and without IPv6 addresses. Debian 13 has Docker 26, AppArmor
// and IPv6.
const (
	Debian12 Release = "bookworm"
	Debian13 Release = "trixie"
)

// orDefault returns Debian 12 if no release is set.
func (r Release) orDefault() Release {
	if r == "" {
		return Debian12
	}
	return r
}

// KernelArguments returns the kernel arguments of every machine.
//
//   - apparmor=0: without apparmor_parser, which the image of Debian 12 lacks,
//     Docker refuses to start containers.
//   - net.ifnames=0: the interface is called eth0, which ip= refers to.
//   - noinit_itable: otherwise the kernel zeroes the inode tables that mkfs left
//     uninitialized during the first boot.
//   - nr_uarts=1: otherwise udev waits for three serial ports that do not exist.
func (r Release) KernelArguments() string {
	const all = "quiet net.ifnames=0 rootflags=noinit_itable 8250.nr_uarts=1"
	if r.orDefault() == Debian12 {
		return all + " apparmor=0"
	}
	return all
}

// packages returns those of an operator's host without firstboot: Docker, rpm,
// SSH.
func (r Release) packages() []string {
	list := []string{
		"ca-certificates", "dbus", "docker.io", "iproute2", "iptables", "iputils-ping", "kmod",
		"linux-image-cloud-amd64", "openssh-server", "rpm", "systemd", "systemd-sysv", "udev",
		"busybox-static", // for the initrd and the ping image
	}
	if r == Debian13 {
		// docker.io only recommends the docker command.
		list = append(list, "apparmor", "docker-cli")
	}
	return list
}

// maskedUnits returns units that the lab's machines do not need. Each adds some
// hundred milliseconds to a boot.
func (r Release) maskedUnits() []string {
	list := []string{
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
		"fstrim.timer", "systemd-tmpfiles-clean.timer", "systemd-pstore.service", "systemd-random-seed.service",
		"systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-logind.service",
		"getty@tty1.service", "modprobe@.service", "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount",
		"sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
		"proc-sys-fs-binfmt_misc.automount",
	}
	if r == Debian13 {
		// sshd-keygen.service generates RSA keys, which takes half a minute on an
		// emulated processor.
		list = append(list, "sshd-keygen.service", "systemd-hibernate-clear.service", "systemd-journald-audit.socket",
			"systemd-tpm2-setup-early.service", "systemd-tpm2-setup.service")
	}
	return slices.Clip(list)
}
