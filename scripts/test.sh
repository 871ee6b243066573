#!/usr/bin/env bash
# Prepares the environment and runs every check: lint, format, tests. Arguments go to pytest, such as -k serving or
# --run-slow; -n 0 runs them in one process, such as for --pdb. With TFTHESIS_DATA naming a folder of real datasets, the tests that need them run too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
python=${VIRTUAL_ENV:-$PWD/.venv}/bin/python

status=0
"$python" -m ruff check . || status=1
"$python" -m ruff format --check . || status=1
"$python" -m pytest -n 2 --dist loadgroup "$@" || status=$?
exit "$status"
