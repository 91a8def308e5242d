#!/bin/bash
# pytf on hosts that are reached by ssh: real sshd, from Debian's packages, in namespaces of this
# machine, each with a host name and a home of its own.
#
#     tests/hosts/run.sh               # all scenarios but those that take minutes
#     tests/hosts/run.sh --all
#     tests/hosts/run.sh storm death   # some; --help names them
#
# PYTF names the program (default: target/release/pytf, else target/debug/pytf), HOSTS_TASKS
# how many tasks the storm has (300), HOSTS_SECONDS for how long it kills (20).
#
# Needs root and the packages below; says so and does nothing where something is missing. Changes
# nothing on the machine: everything runs in namespaces, and goes with them.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=/usr/sbin:/sbin:/usr/bin:/bin:$PATH

skip() { echo "SKIPPED tests/hosts: $1" >&2; exit 0; }
[ "$(id -u)" = 0 ] || skip "only root can make namespaces and run sshd"
for need in sshd:openssh-server ssh:openssh-client ip:iproute2 python3:python3 hostname:hostname \
    unshare:util-linux nsenter:util-linux; do
    command -v "${need%%:*}" >/dev/null ||
        skip "there is no ${need%%:*} (apt-get install --no-install-recommends ${need##*:})"
done
unshare --pid --fork --mount-proc --mount --net --uts true 2>/dev/null || skip "no namespaces are to be had"

if [ -z "${PYTF:-}" ]; then
    PYTF=target/release/pytf
    [ -x "$PYTF" ] || PYTF=target/debug/pytf
fi
[ -x "$PYTF" ] || { echo "tests/hosts: $PYTF is no program" >&2; exit 1; }
PYTF=$(realpath "$PYTF")
export PYTF
exec unshare --pid --fork --kill-child --mount-proc --mount --net --uts --propagation private \
    python3 -B tests/hosts/run.py "$@"
