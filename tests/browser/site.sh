#!/usr/bin/env bash
# Opens each page of the documents, as docs/build.sh has made them, in a headless
# browser: whether each fits the window at 1280 and 400 pixels, and prints no error.
#
#   tests/browser/site.sh [PYTF] [SCREENSHOTS]
#
# Exit status: 0 agreed, 1 not, 2 something is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/browser/tools.sh
. "$here/tools.sh"
site=$here/../../target/site
[ -e "$site/index.html" ] || missing "there is no target/site: docs/build.sh makes it"
cp "$here/site.mjs" "$CACHE/site.mjs"
node "$CACHE/site.mjs" "$site" "${@:2}"
