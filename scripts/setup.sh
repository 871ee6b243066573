#!/usr/bin/env bash
# Prepares a Python environment: the active virtual environment, or .venv in this checkout, which is made if needed.
# Installs requirements.lock and this checkout into it. Running it again changes nothing unless a version changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "setup: $*" >&2
  exit 1
}

suitable() { # does "$1" run, as a Python 3.11 to 3.13?
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1
}

[[ "$(uname -sm)" == "Linux x86_64" ]] || fail "needs Linux on x86-64 (ScaNN has no other wheels), this is $(uname -sm)"
grep -qw avx2 /proc/cpuinfo || fail "this processor has no AVX2, which ScaNN's wheels need"

if [[ -n "${VIRTUAL_ENV:-}" ]]; then
  environment=$VIRTUAL_ENV
  suitable "$environment/bin/python" || fail "the active environment $environment is not Python 3.11 to 3.13; deactivate it"
  echo "setup: using the active environment $environment"
else
  environment=$PWD/.venv
  if suitable "$environment/bin/python" && "$environment/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "setup: using $environment"
  else
    base=""
    for candidate in python3.11 python3.12 python3.13 python3 python; do # as tested most
      if suitable "$candidate" && "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        base=$candidate
        break
      fi
    done
    [[ -n "$base" ]] || fail "found no Python 3.11, 3.12 or 3.13 with venv on PATH; install one" \
      "(on Debian and Ubuntu: python3.12 and python3.12-venv) and run this again"
    echo "setup: making $environment with $base ($("$base" --version))"
    "$base" -m venv --clear "$environment"
  fi
fi

# What was installed from where; written last, so that an interrupted installation is done again.
stamp=$environment/tfthesis-installed
wanted=$(echo "$PWD"; cat requirements.lock setup.py pyproject.toml)
if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]]; then
  echo "setup: already installed"
  exit 0
fi
echo "setup: installing $(grep -vc '^#' requirements.lock) packages of requirements.lock; the first time takes minutes"
pip=("$environment/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install --quiet --requirement requirements.lock
"${pip[@]}" install --quiet --no-deps --no-build-isolation --editable .
printf '%s\n' "$wanted" >"$stamp"
echo "setup: done"
