#!/bin/bash
# pytf on a real Slurm of four nodes, on this machine, from Debian's packages.
#
#     tests/slurm/run.sh                   # all scenarios but those that take minutes
#     tests/slurm/run.sh --all
#     tests/slurm/run.sh farm time_limit   # some; --help names them
#     tests/slurm/run.sh --keep farm       # leaves its folder behind
#
# PYTF names the program (default: target/release/pytf, else target/debug/pytf,
# else it is built), PYTF_SLURM_JOBS how many scenarios run at a time (3),
# PYTF_SLURM_TASKS how many tasks the large farm has (2000).
#
# Needs root and the packages below; says so and does nothing where something is
# missing. Changes nothing on the machine: everything runs in namespaces, and
# goes with them.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=/usr/sbin:/sbin:/usr/bin:/bin:$PATH

skip() { echo "SKIPPED tests/slurm: $1" >&2; exit 0; }
[ "$(id -u)" = 0 ] || skip "only root can make namespaces and run slurmd"
for need in slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge ip:iproute2 python3:python3 \
    hostname:hostname setpriv:util-linux unshare:util-linux nsenter:util-linux ps:procps; do
    command -v "${need%%:*}" >/dev/null ||
        skip "there is no ${need%%:*} (apt-get install --no-install-recommends ${need##*:})"
done
unshare --pid --fork --mount-proc --mount --net --uts true 2>/dev/null || skip "no namespaces are to be had"

if [ -z "${PYTF:-}" ]; then
    PYTF=target/release/pytf
    [ -x "$PYTF" ] || PYTF=target/debug/pytf
    [ -x "$PYTF" ] || cargo build
fi
[ -x "$PYTF" ] || { echo "tests/slurm: $PYTF is no program" >&2; exit 1; }
PYTF=$(realpath "$PYTF")
export PYTF
# What runs the commands of the documents: the newest that was built.
PYTF_DOCS_TEST=$(find "$PWD/target/debug/deps" -name 'docs-*' -type f -executable -printf '%T@ %p\n' 2>/dev/null |
    sort -n | sed -n '$s/[^ ]* //p')
export PYTF_DOCS_TEST
exec python3 -B tests/slurm/run.py "$@"
