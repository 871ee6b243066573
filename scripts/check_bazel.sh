#!/usr/bin/env bash
# Checks syntax, format and lint of BUILD and MODULE.bazel with buildifier; --fix rewrites them. Needs buildifier on
# PATH or from `npm install --no-save @bazel/buildifier`; exits with 3 where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

buildifier=$(command -v buildifier || true)
if [[ -z "$buildifier" && -x node_modules/.bin/buildifier ]]; then buildifier=node_modules/.bin/buildifier; fi
if [[ -z "$buildifier" ]]; then
  echo "check_bazel: buildifier is not installed; run: npm install --no-save @bazel/buildifier" >&2
  exit 3
fi

if [[ "${1:-}" == "--fix" ]]; then
  "$buildifier" --mode=fix --lint=fix BUILD MODULE.bazel
else
  "$buildifier" --mode=check --lint=warn BUILD MODULE.bazel
fi
