#!/bin/bash
# The corrected runbook as a careful operator would put it into cloud-init's
# runcmd: the script that firstboot is measured against. It joins a host with a
# global network. Each step waits until what the next one needs is there, and
# prints its name when it ends.
set -u
fail() { printf 'FAILED %s\n' "$1"; exit 1; }
# wait_for CHECK... waits up to two minutes.
wait_for() {
	local end=$((SECONDS + 120)) error
	until error=$("$@" 2>&1 >/dev/null); do
		[ $SECONDS -lt $end ] || fail "$*: $error"
		sleep .25
	done
}
name=$(hostname)
address=$(ip -4 -o addr show eth0 | awk '{sub("/.*", "", $4); print $4; exit}')
etcd=10.123.0.1:2379
bundle=/usr/lib/firstboot/bundle/sha256
image=$(awk '/image:/ {print $2; exit}' /etc/firstboot/config.yaml | tr -d '"')
digest() { awk -v s="$1" '$0 ~ "^"s":" {f=1; next} /^[a-z]/ {f=0} f && /sha256/ {print $2}' /etc/firstboot/config.yaml | tr -d '"'; }

step_sysctl() {
	for module in nf_conntrack ip_tables ip6_tables xt_set; do modprobe "$module"; done
	printf 'nf_conntrack\nip_tables\nip6_tables\nxt_set\n' >/etc/modules-load.d/calico.conf
	cat >/etc/sysctl.d/90-calico.conf <<END
net.ipv4.ip_forward=1
net.netfilter.nf_conntrack_max=1000000
net.ipv6.conf.all.disable_ipv6=1
net.ipv6.conf.default.disable_ipv6=1
END
	sysctl -q -p /etc/sysctl.d/90-calico.conf || fail sysctl
}

step_calicoctl() {
	sum=$(digest calicoctl)
	cp "$bundle/$sum" /usr/bin/calicoctl.new || fail calicoctl
	echo "$sum  /usr/bin/calicoctl.new" | sha256sum -c --quiet || fail calicoctl
	chmod 755 /usr/bin/calicoctl.new || fail calicoctl
	mv /usr/bin/calicoctl.new /usr/bin/calicoctl || fail calicoctl
}

step_docker() {
	mkdir -p /etc/calico /etc/docker /etc/systemd/network
	cat >/etc/calico/calicoctl.cfg <<END
apiVersion: projectcalico.org/v3
kind: CalicoAPIConfig
metadata: {}
spec:
  datastoreType: etcdv3
  etcdEndpoints: "http://$etcd"
END
	echo "{\"cluster-store\": \"etcd://$etcd\", \"cluster-advertise\": \"$address:2375\"}" >/etc/docker/daemon.json
	printf '[Match]\nOriginalName=cali* temp*\n[Link]\nMACAddressPolicy=none\n' >/etc/systemd/network/10-calico.link
	udevadm control --reload
	systemctl restart docker || fail docker
	wait_for docker info
}

step_node() {
	calicoctl node run --name="$name" --ip="$address" --node-image="$image" --no-default-ippools >/tmp/node.log 2>&1 || { tail -3 /tmp/node.log; fail node; }
}

step_rpm() {
	sum=$(digest minions)
	cp "$bundle/$sum" /tmp/minions.rpm || fail minions
	echo "$sum  /tmp/minions.rpm" | sha256sum -c --quiet || fail minions
	rpm -i --nodeps /tmp/minions.rpm >/tmp/rpm.log 2>&1 || { cat /tmp/rpm.log; fail minions; }
	echo "ETCD_ENDPOINTS=http://$etcd" >/etc/eru/minions.conf
	mkdir -p /etc/systemd/system/eru-minions.service.d
	printf '[Unit]\nBefore=docker.service\n' >/etc/systemd/system/eru-minions.service.d/10-order.conf
	systemctl daemon-reload
}

step_plugin() {
	systemctl enable -q --now --no-block eru-minions
	wait_for both_sockets
}
# A socket file proves nothing, but /proc/net/unix lists those that are open.
both_sockets() { [ "$(grep -c '/run/docker/plugins/calico' /proc/net/unix)" -ge 2 ]; }

step_pool() {
	calicoctl create -f - >/tmp/pool.log 2>&1 <<END
- apiVersion: projectcalico.org/v3
  kind: Profile
  metadata: {name: firstboot}
  spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}
- apiVersion: projectcalico.org/v3
  kind: IPPool
  metadata: {name: firstboot}
  spec: {cidr: 10.213.0.0/16, natOutgoing: true, ipipMode: Never, vxlanMode: Never}
END
	grep -v -e 'already exists' -e 'Successfully' /tmp/pool.log
	# Two hosts that create it at the same time make two networks of one name.
	if [ "$name" = host1 ]; then
		docker network inspect firstboot >/dev/null 2>&1 ||
			docker network create --driver calico --ipam-driver calico-ipam --subnet 10.213.0.0/16 firstboot >/dev/null 2>&1
	else
		wait_for docker network inspect firstboot
	fi
	network=$(docker network inspect -f '{{.Id}}' firstboot) || fail network
	# It fails if another host changes the pool at the same time.
	wait_for calicoctl patch ippool firstboot -p "{\"metadata\":{\"annotations\":{\"org.projectcalico.label.network.ID\":\"$network\"}},\"spec\":{\"vxlanMode\":\"Never\"}}"
}

step_verify() {
	docker run -d --name "probe-$name" --network firstboot firstboot-lab/ping:latest sleep 600 >/dev/null || fail container
	container=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "probe-$name")
	docker exec "probe-$name" ip -o link | grep -q cali0 || fail cali0
	wait_for ping -c1 -W1 "$container"
	docker rm -f "probe-$name" >/dev/null
}

[ $# -gt 0 ] || set -- sysctl calicoctl docker node rpm plugin pool verify
for step; do
	"step_$step"
	printf 'STEP %s\n' "$step"
done
