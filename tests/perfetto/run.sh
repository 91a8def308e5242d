#!/usr/bin/env bash
# Makes runs and shows their timelines to the real Perfetto: one with failures
# that are tried again, one whose tasks end in every way, one that was killed, made
# by `pytf timeline`, and one on nodes with GPUs.
#
#   tests/perfetto/run.sh PYTF
#
# Exit status: 0 agreed, 1 not, 2 something is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/browser/killed.sh
. "$here/../browser/killed.sh"
pytf=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for n in $(seq 300); do echo "echo $n; exit $((n % 30 == 0))"; done >"$work/tasks.txt"
farm=("$pytf" "$work/tasks.txt" --proc 4 --workdir "$work/again" --quiet)
"${farm[@]}" || [ $? = 1 ]
"${farm[@]}" --retry-failed || [ $? = 1 ]
attempts=$(cat "$work"/again/nodes/done/*.jsonl | grep -c '"event":"end"')
[ "$attempts" = 310 ]
"$here/check.sh" "$work/again/timeline.json" "$attempts" 10

# Deaths by signals, whose records are held back for a moment, and time limits.
for n in $(seq 0 1999); do
    case $((n % 8)) in
        0) echo 'kill -TERM $$' ;;
        1) echo 'kill -KILL $$' ;;
        2) echo 'exit 3' ;;
        3) if [ $((n % 200)) = 3 ]; then echo 'sleep 1000'; else echo true; fi ;;
        4) echo 'sleep 0.0$((RANDOM % 10))' ;;
        *) echo true ;;
    esac
done >"$work/mixed.txt"
"$pytf" "$work/mixed.txt" --proc 8 --workdir "$work/mixed" --task-timeout 1 --quiet || [ $? = 1 ]
OUTCOMES='[["exit",1490],["signal",500],["time-limit",10]]' \
    "$here/check.sh" "$work/mixed/timeline.json" 2000

killed_run "$pytf" "$work"
"$pytf" timeline "$work/killed" --gzip -o "$work/killed.json.gz"
gzip -dk "$work/killed.json.gz"
"$here/check.sh" "$work/killed.json" 2

# Curves of GPUs, as its journals have them.
python3 "$here/../report/make_run.py" "$work/gpus" 200 2 4 --gpus 2
"$pytf" timeline "$work/gpus"
attempts=$(cat "$work"/gpus/nodes/done/*.jsonl | grep -c '"event":"end"')
measured=$(cat "$work"/gpus/nodes/done/*.jsonl | grep -c '"event":"gpus"')
GPUS=4 MEASURED=$((measured * 2)) "$here/check.sh" "$work/gpus/timeline.json" "$attempts"
