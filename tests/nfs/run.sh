#!/bin/bash
# pytf on kernel NFS: a server and clients with kernels and page caches of their own
# (user-mode Linux), on this machine.
#
#     tests/nfs/run.sh                      # the scenarios of the short form
#     tests/nfs/run.sh all                  # all; --help names them
#     tests/nfs/run.sh storm_link           # some
#     tests/nfs/run.sh --keep cut           # leaves its folder behind
#     tests/nfs/run.sh storm PYTF=PROGRAM   # with another program
#
# PYTF names the program (default: target/debug/pytf, built when it is missing),
# PYTF_TEST_KILLS how many farmers a storm kills (4), PYTF_NFS_GUEST the folder of what the
# nodes boot (/var/tmp/pytf-nfs): made once, from Debian's packages.
#
# Needs root, /dev/net/tun and the packages below; says so and does nothing where
# something is missing. Changes nothing on the machine: everything runs in namespaces, and
# goes with them.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=/usr/sbin:/sbin:/usr/bin:/bin:${PATH:-}

skip() { echo "SKIPPED tests/nfs: $1" >&2; exit 0; }
arguments=()
for argument in "$@"; do
    case $argument in
    PYTF=*) PYTF=${argument#PYTF=} ;;
    *) arguments+=("$argument") ;;
    esac
done

[ "$(uname -m)" = x86_64 ] || skip "user-mode Linux is packaged for x86-64 only"
[ "$(id -u)" = 0 ] || skip "only root can make networks"
[ -c /dev/net/tun ] || skip "there is no /dev/net/tun"
for need in debootstrap:debootstrap ip:iproute2 mkfs.ext4:e2fsprogs cc:gcc python3:python3 dpkg:dpkg \
    apt-get:apt flock:util-linux setpriv:util-linux unshare:util-linux; do
    command -v "${need%%:*}" >/dev/null ||
        skip "there is no ${need%%:*} (apt-get install --no-install-recommends ${need##*:})"
done
unshare --pid --fork --mount-proc --mount --net --uts true 2>/dev/null || skip "no namespaces are to be had"
guest=${PYTF_NFS_GUEST:-/var/tmp/pytf-nfs}
log=$(mktemp)
if ! tests/nfs/guest.sh "$guest" >"$log" 2>&1; then
    tail -n 3 "$log" >&2
    rm -f "$log"
    skip "the nodes could not be made in $guest: no network, or no package user-mode-linux"
fi
rm -f "$log"

if [ -z "${PYTF:-}" ]; then
    PYTF=target/debug/pytf
    [ -x "$PYTF" ] || cargo build
fi
[ -x "$PYTF" ] || { echo "tests/nfs: $PYTF is not a program" >&2; exit 1; }
PYTF=$(realpath "$PYTF")
export PYTF
exec setpriv --pdeathsig KILL \
    unshare --pid --fork --kill-child --mount-proc --mount --net --uts --propagation private \
    python3 -B tests/nfs/main.py "$guest" "${arguments[@]}"
