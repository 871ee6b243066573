#!/usr/bin/env bash
# The whole way, from a bare machine to answered queries: prepares the environment, trains MMC-Net on rendered scenes,
# exports it, serves the export, and asks for images by text and for captions by image. Run again, it finds the
# finished run and export and only serves and asks. Arguments go to the training command, such as --seed 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

questions=(
  "a red car on the grass"
  "a boat in the sea"
  "a yellow butterfly at night"
  "a house and a striped umbrella on the beach"
)

scripts/setup.sh
python=${VIRTUAL_ENV:-$PWD/.venv}/bin/python
# TensorFlow's remarks on its start would stand between the answers.
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}

work=$(mktemp -d)
server=""
finish() {
  if [[ -n "$server" ]] && kill "$server" 2>/dev/null; then wait "$server" || true; fi # it ends what it answers
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

printf '\n== train, evaluate, export\n'
"$python" -m training.run --method mmc_net --preset quick --export-dir saved_models "$@" | tee "$work/result"
export=$(sed -n 's/^export: //p' "$work/result")
report=$(sed -n 's/^report: //p' "$work/result")
if [[ -z "$export" ]]; then exit 0; fi # such as --dry-run

printf '\n== serve %s\n' "$export"
"$python" -m serving.server --model_base_path saved_models --model_name "$(basename "$(dirname "$export")")" \
  --port 0 2>"$work/log" &
server=$!
port=""
deadline=$((SECONDS + 300))
until [[ -n "$port" ]]; do
  if ! kill -0 "$server" 2>/dev/null || ((SECONDS > deadline)); then
    cat "$work/log" >&2
    echo "demo: the server did not start; its log stands above" >&2
    exit 1
  fi
  sleep 0.2
  port=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$work/log")
done
echo "listening on 127.0.0.1:$port"

printf '\n== search images by text\n'
ask=()
for question in "${questions[@]}"; do ask+=(--text "$question"); done
"$python" -m serving.client --port "$port" --top 3 "${ask[@]}"

# A picture that is in no split of the default data.
printf '\n== search captions by image; the picture shows:\n'
mkdir -p runs
"$python" - runs/query.png <<'PYTHON'
import sys
from pathlib import Path

from tfthesis.data.image_text import open_image_text

item = open_image_text("scenes", images=(1, 1, 1), seed=1).splits["test"][0]
Path(sys.argv[1]).write_bytes(item.image.read_bytes())
print(*item.captions, sep="\n")
PYTHON
echo
"$python" -m serving.client --port "$port" --top 5 --image runs/query.png

printf '\nreport: %s\nserve it again: python -m serving.server --model_base_path saved_models\n' "$report"
