#!/usr/bin/env bash
# Single-node Ceph (monitor, one OSD on a sparse file, radosgw) under DIR, on loopback only, as ordinary processes.
# Usage: ceph_rgw_up.sh DIR PORT MONITOR_PORT; again on the same DIR: what doesn't run any more is started on its data.
# Needs Debian's packages radosgw, ceph-mon, ceph-osd and curl. Stop it by the ids in DIR/run/*.pid.
set -euo pipefail
D=${1:?folder}; P=${2:?port}; MON=127.0.0.1:${3:?port of the monitor}
mkdir -p "$D"; D=$(realpath "$D"); export CEPH_CONF=$D/ceph.conf

runs() { [ -e "$D/run/$1.pid" ] && kill -0 "$(cat "$D/run/$1.pid")" 2>/dev/null; }

if [ ! -e "$D/ready" ]; then
mkdir -p "$D"/{mon,osd,rgw,run,log}
cat > "$CEPH_CONF" <<C
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = v2:$MON
mon initial members = a
public addr = 127.0.0.1
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
mon data avail crit = 1
osd crush chooseleaf type = 0
ms bind msgr1 = false
osd objectstore = bluestore
bluestore block size = 8589934592
bluestore block create = true
bluestore block wal size = 0
bluestore block db size = 0
bluestore fsck quick fix on mount = false
osd max object name len = 1024
osd memory target = 939524096
run dir = $D/run
log file = $D/log/\$name.log
admin socket = $D/run/\$name.\$pid.asok
pid file = $D/run/\$name.pid
keyring = $D/keyring
[mon.a]
mon addr = v2:$MON
mon data = $D/mon
[osd.0]
osd data = $D/osd
[client.rgw]
rgw data = $D/rgw
rgw frontends = beast endpoint=127.0.0.1:$P tcp_nodelay=1
rgw thread pool size = 64
C
ceph-authtool -C "$D/keyring" --gen-key -n mon. --cap mon 'allow *'
ceph-authtool "$D/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
ceph-authtool "$D/keyring" --gen-key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
ceph-authtool "$D/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
monmaptool --create --fsid "$(awk '/^fsid/{print $3}' "$CEPH_CONF")" --addv a "[v2:$MON]" "$D/monmap"
ceph-mon --mkfs -i a --monmap "$D/monmap" --keyring "$D/keyring"
fi
runs mon.a || ceph-mon -i a
if [ ! -e "$D/ready" ]; then
ceph osd new "$(cat /proc/sys/kernel/random/uuid)"
uuid=$(ceph osd dump -f json | python3 -c 'import json, sys; print(json.load(sys.stdin)["osds"][0]["uuid"])')
ceph-osd -i 0 --mkfs --osd-uuid "$uuid"
fi
runs osd.0 || ceph-osd -i 0
runs client.rgw || radosgw -n client.rgw
for _ in $(seq 300); do curl -fs -o /dev/null "http://127.0.0.1:$P/" && break; sleep .2; done
curl -fs -o /dev/null "http://127.0.0.1:$P/"
if [ ! -e "$D/ready" ]; then
# The second one owns nothing: what it may do a bucket's policy says.
radosgw-admin user create --uid=demo --display-name=demo --access-key=demoaccess --secret-key=demosecret
radosgw-admin user create --uid=guest --display-name=guest --access-key=guestaccess --secret-key=guestsecret
touch "$D/ready"
fi
