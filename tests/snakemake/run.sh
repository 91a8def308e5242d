#!/usr/bin/env bash
# A real Snakemake on a run of pytf, with the profile in examples/snakemake: 200 jobs, two processes
# that stay for them, one of which is killed in the middle. Then the commands of the page.
#
#   tests/snakemake/run.sh PYTF
#
# PYTF_SNAKEMAKE is a Python environment that has Snakemake; otherwise one is made in
# target/snakemake, from PyPI. PYTF_SNAKEMAKE_JOBS is how many jobs there are.
#
# Exit status: 0 right, 1 not, 2 something is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
pytf=$(realpath "$1")
jobs=${PYTF_SNAKEMAKE_JOBS:-200}
venv=${PYTF_SNAKEMAKE:-$root/target/snakemake}
if [ ! -x "$venv/bin/snakemake" ]; then
    python3 -m venv "$venv" || exit 2
    "$venv/bin/pip" -q install snakemake==9.27.1 snakemake-executor-plugin-cluster-generic==1.0.9 || exit 2
fi
work=$(mktemp -d)
farms=()
trap 'for farm in "${farms[@]}"; do kill -9 $farm 2>/dev/null || true; done; rm -rf "$work"' EXIT
mkdir "$work/bin"
ln -s "$pytf" "$work/bin/pytf"
cp -r examples/snakemake "$work/profile"
cp tests/snakemake/Snakefile "$work/"
cd "$work"
home=$HOME
export PATH=$work/profile:$work/bin:$venv/bin:$PATH PYTF_RUN=$work/run HOME=$work

for n in 1 2; do
    pytf --workdir run --follow --proc 2 >"farm$n.log" 2>&1 &
    farms+=($!)
done
snakemake --profile profile --config squares=$((jobs - 1)) >snakemake.log 2>&1 &
snakemake=$!
until [ "$(cat run/finished 2>/dev/null | wc -l)" -gt $((jobs / 4)) ]; do
    kill -0 $snakemake 2>/dev/null || { cat snakemake.log farm1.log; exit 1; }
    sleep 0.2
done
kill -9 "${farms[0]}"
wait $snakemake || { tail -n 40 snakemake.log farm2.log; exit 1; }
n=$((jobs - 1))
[ "$(cat sum)" = $((n * (n + 1) * (2 * n + 1) / 6)) ] || { echo "the sum is $(cat sum)"; exit 1; }
pytf close run
wait "${farms[1]}" || { cat farm2.log; exit 1; }
# Each job was a task that finished once.
[ "$(wc -l <run/finished)" = "$jobs" ] || { pytf status run; exit 1; }
[ ! -s run/failed ] || { cat run/failed; exit 1; }
tail -n 4 farm2.log
cd "$root"
# Its cargo is found by the home of before.
HOME=$home DOCS_RUN=workflow cargo test -q --test docs commands_print >"$work/page.log" 2>&1 || { cat "$work/page.log"; exit 1; }
echo "Snakemake: $jobs jobs on two processes, one of which was killed: the right result"
