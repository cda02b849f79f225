#!/usr/bin/env bash
# The kit on a foreign architecture: made here, run by an emulated aarch64 Python, imported here.
#
#   benchmarks/aarch64.sh DIR && benchmarks/aarch64_kit.sh DIR
#
# Proves that the kit works there; emulated times mean nothing. Writes benchmarks/results/aarch64_kit.txt.
set -euo pipefail
dir=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cli() { PYTHONPATH="$here" "$python" -c 'from dtp_edge.cli import main; main()' "$@"; }

cli profile kit "$work/kit.zip" --quiet
"$python" -m zipfile -e "$work/kit.zip" "$work/board"
(cd "$work/board" && "$dir/python" measure.py --visits 1 --limit "${LIMIT:-24}" --seconds "${SECONDS_LIMIT:-900}" --least-cpu-share 0 --out results.json)
cli profile import "$work/board/results.json" --name aarch64-emulated --out "$work/profile.json"
cli devices "$work/profile.json" > "$work/page.txt"
{
  echo "$(date -u +%F), $(uname -m) host, emulated: $("$dir/python" -c '
import platform, numpy, onnxruntime
print(platform.machine(), "Python", platform.python_version(), "numpy", numpy.__version__, "onnxruntime", onnxruntime.__version__)')"
  echo "kit.zip $(stat -c %s "$work/kit.zip") bytes; results.json $(stat -c %s "$work/board/results.json") bytes"
  cat "$work/page.txt"
} | tee "$here/benchmarks/results/aarch64_kit.txt"
