#!/usr/bin/env bash
# The Python client is typed (mypy --strict), and its page makes a table with pandas.
#
#   tests/python/check.sh PYTF
#
# PYTF_PYTHON is a Python environment that has mypy and pandas; otherwise one is made in
# target/python, from PyPI.
#
# Exit status: 0 right, 1 not, 2 something is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${PYTF_PYTHON:-$PWD/target/python}
if [ ! -x "$venv/bin/mypy" ]; then
    python3 -m venv "$venv" || exit 2
    "$venv/bin/pip" -q install mypy==2.4.1 pandas==3.1.1 || exit 2
fi
"$venv/bin/mypy" --strict --cache-dir target/mypy packaging/python/pytf_hpc
PATH=$venv/bin:$PATH DOCS_RUN=pandas cargo test -q --test docs commands_print
echo "the Python client: mypy --strict, and a table of pandas"
