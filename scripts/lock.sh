#!/usr/bin/env bash
# Resolves setup.py with the extras `encoders` and `test` for Python 3.11 to 3.13, with one version of a package
# for all of them where there is one, and rewrites requirements.lock. Versions already there are kept;
# --upgrade or --upgrade-package NAME moves them. Needs uv (python -m pip install uv).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v uv >/dev/null; then
  echo "lock.sh: uv is not installed; run: python -m pip install uv" >&2
  exit 1
fi

draft=$(mktemp requirements.XXXXXX.lock)
trap 'rm -f "$draft"' EXIT
if [[ -f requirements.lock ]]; then cp requirements.lock "$draft"; fi
uv pip compile setup.py --quiet --universal --fork-strategy fewest --python-version 3.11 \
  --extra encoders --extra test --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
  --output-file "$draft" "$@" >/dev/null

# The platform and the end of the versions are the same on every line, so only other conditions are worth a marker.
platform="implementation_name == 'cpython' and platform_machine == 'x86_64' and sys_platform == 'linux'"
{
  echo "# Every package that a tested installation has, for Python 3.11 to 3.13 on Linux x86-64."
  echo "# Written by scripts/lock.sh from setup.py with the extras encoders and test; do not edit."
  sed -e '/^#/d' -e "s/ and $platform//" -e "s/ ; $platform//" -e "s/python_full_version < '3.14' and //" \
    -e "s/ ; python_full_version < '3.14'$//" "$draft"
} >requirements.lock
echo "requirements.lock: $(grep -vc '^#' requirements.lock) packages"
