#!/usr/bin/env bash
# Makes runs and shows their timelines to the real Perfetto: one with failures
# that are tried again, and one that was killed, made by `pytf timeline`.
#
#   tests/perfetto/run.sh PYTF
#
# Exit status: 0 agreed, 1 not, 2 something is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
pytf=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for n in $(seq 300); do echo "echo $n; exit $((n % 30 == 0))"; done >"$work/tasks.txt"
farm=("$pytf" "$work/tasks.txt" --proc 4 --workdir "$work/again" --quiet)
"${farm[@]}" || [ $? = 1 ]
"${farm[@]}" --retry-failed || [ $? = 1 ]
attempts=$(cat "$work"/again/nodes/*.jsonl | grep -c '"event":"end"')
[ "$attempts" = 310 ]
"$here/check.sh" "$work/again/timeline.json" "$attempts" 10

printf 'sleep 1000\n%.0s' 1 2 3 4 >"$work/long.txt"
"$pytf" "$work/long.txt" --proc 2 --workdir "$work/killed" --quiet &
farmer=$!
# The journal tells of a start when it is next written.
tries=0
until "$pytf" status "$work/killed" --json 2>/dev/null | grep -q '"running": 2'; do
    sleep 0.2
    [ $((tries += 1)) -lt 300 ] || { echo "no task has started"; exit 1; }
done
kill -KILL $farmer
wait $farmer 2>/dev/null || true
"$pytf" timeline "$work/killed" --gzip -o "$work/killed.json.gz"
gzip -dk "$work/killed.json.gz"
"$here/check.sh" "$work/killed.json" 2
