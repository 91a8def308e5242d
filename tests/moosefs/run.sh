#!/bin/bash
# The storms of tests/many on a real network file system: MooseFS from Debian's
# packages, one volume mounted twice on this machine, a process on each mount in
# turn. Two mounts are two clients, with caches and locks of their own, as two
# nodes are.
#
#     tests/moosefs/run.sh            # the tests whose name holds "storm", "start" or "linger"
#     tests/moosefs/run.sh storm      # others, as cargo test takes them
#
# Needs root, /dev/fuse, moosefs-master, moosefs-chunkserver, moosefs-client;
# says so and does nothing where one is missing. Ends what it started, by the
# process ids that it noted, and nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=/usr/sbin:/sbin:/usr/bin:/bin:$PATH

skip() { echo "SKIPPED tests/moosefs: $1" >&2; exit 0; }
[ "$(id -u)" = 0 ] || skip "only root can mount"
[ -c /dev/fuse ] || skip "there is no /dev/fuse"
for program in mfsmaster mfschunkserver mfsmount mfssetgoal ip nsenter; do
  command -v $program >/dev/null || skip "there is no $program (apt-get install moosefs-master moosefs-chunkserver moosefs-client iproute2)"
done

home=$(mktemp -d /tmp/pytf-moosefs.XXXXXX)
net=$(basename "$home" | tr . -)
address=10.99.0.1

inside() { nsenter --net="/run/netns/$net" -- "$@"; }

down() {
  status=$?
  set +e
  for mount in one two; do
    mountpoint -q "$home/$mount" && umount -l "$home/$mount"
  done
  [ -e "$home/chunk.cfg" ] && mfschunkserver -c "$home/chunk.cfg" stop >/dev/null 2>&1
  [ -e "$home/master.cfg" ] && mfsmaster -c "$home/master.cfg" stop >/dev/null 2>&1
  ip netns del "$net" 2>/dev/null
  rm -rf --one-file-system "$home"
  exit $status
}
trap down EXIT

# The servers refuse 127.0.0.1: a network namespace gives them an address.
ip netns add "$net"
inside ip link set lo up
inside ip addr add $address/32 dev lo
mkdir "$home"/{master,chunks,data,one,two}
echo '* / rw,alldirs,maproot=0' >"$home/exports"
: >"$home/topology"
echo "$home/data" >"$home/disks"
echo 'MFSM NEW' >"$home/master/metadata.mfs"
cat >"$home/master.cfg" <<END
WORKING_USER=root
WORKING_GROUP=root
DATA_PATH=$home/master
EXPORTS_FILENAME=$home/exports
TOPOLOGY_FILENAME=$home/topology
MATOML_LISTEN_HOST=$address
MATOCS_LISTEN_HOST=$address
MATOCL_LISTEN_HOST=$address
END
cat >"$home/chunk.cfg" <<END
WORKING_USER=root
WORKING_GROUP=root
DATA_PATH=$home/chunks
HDD_CONF_FILENAME=$home/disks
MASTER_HOST=$address
BIND_HOST=$address
CSSERV_LISTEN_HOST=$address
HDD_LEAVE_SPACE_DEFAULT=64MiB
END
inside mfsmaster -c "$home/master.cfg" start >/dev/null 2>&1
inside mfschunkserver -c "$home/chunk.cfg" start >/dev/null 2>&1

mount_at() { inside mfsmount -H $address "$home/$1" >/dev/null 2>&1; }
ready() {
  mfssetgoal -r 1 "$home/one" >/dev/null 2>&1
  echo ok 2>/dev/null >"$home/one/.probe" && [ "$(cat "$home/two/.probe" 2>/dev/null)" = ok ]
}
try() { for _ in $(seq 150); do "$@" && return; sleep 0.2; done; echo "tests/moosefs: $* never worked" >&2; exit 1; }
try mount_at one
try mount_at two
try ready
rm "$home/one/.probe"

[ $# -gt 0 ] || set -- storm start linger
for name in "$@"; do
  TMPDIR=$home/one PYTF_TEST_MOUNTS=$home/one:$home/two \
    cargo test --test many -- "$name" --test-threads 1 --nocapture
done
