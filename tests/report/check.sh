#!/usr/bin/env bash
# Shows reports to a headless browser and holds them against what the workdirs
# say: of a real run with failures and evil names, of one that was killed, and of
# large made-up ones, without GPUs and with.
#
#   tests/report/check.sh PYTF [SCREENSHOTS]
#
# Exit status: 0 agreed, 1 not, 2 something is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/browser/tools.sh
. "$here/../browser/tools.sh"
# shellcheck source=tests/browser/killed.sh
. "$here/../browser/killed.sh"

[ $# -ge 1 ] || missing "usage: check.sh PYTF [SCREENSHOTS]"
pytf=$(realpath "$1")
shots=${2:+$(realpath "$2")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/judge.mjs" "$CACHE/judge_report.mjs"

judge() {
    echo "--- $1"
    "$pytf" report "$work/$1" -o "$work/$1.html"
    "$pytf" status "$work/$1" --json >"$work/$1.json"
    local folder=()
    if [ -n "$shots" ]; then
        mkdir -p "$shots/$1"
        folder=("$shots/$1")
    fi
    node "$CACHE/judge_report.mjs" "$work/$1.html" "$work/$1.json" "${folder[@]}"
}

{
    for n in $(seq 40); do echo "sleep 0.0$((n % 10)); echo task $n; exit $((n % 8 == 0))"; done
    printf '%s\n' "echo '</script><script>alert(1)</script><img src=x onerror=alert(2)>'; false"
    printf 'echo \377\376 \001 \033[31mred \342\200\256; false\n'
    echo '/nonexistent/program'
    echo 'kill -SEGV $$'
} >"$work/tasks.txt"
"$pytf" "$work/tasks.txt" --proc 4 --workdir "$work/real" --quiet || [ $? = 1 ]
judge real

killed_run "$pytf" "$work"
judge killed
[ "$(grep -c '"life": "dead"' "$work/killed.json")" = 1 ]

python3 "$here/make_run.py" "$work/large" 100000 12 16 --live
judge large

python3 "$here/make_run.py" "$work/gpus" 2000 3 8 --gpus 4
judge gpus
