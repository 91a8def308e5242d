#!/bin/bash
# Makes the site of the documents in target/site, and follows each of its links.
#
#     docs/build.sh             # where mdbook is in PATH or in target/tools
#     docs/build.sh --install   # builds mdbook first where it is missing: some minutes
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/target/tools/bin:$PATH
if ! command -v mdbook >/dev/null && [ "${1:-}" = --install ]; then
    cargo install -q mdbook --version 0.5.4 --locked --no-default-features --features search \
        --root target/tools || echo "mdbook could not be built"
fi
command -v mdbook >/dev/null || { echo "SKIPPED docs/build.sh: there is no mdbook"; exit 0; }
mdbook build docs
exec python3 docs/site.py target/site
