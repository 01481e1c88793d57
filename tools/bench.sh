#!/bin/sh
# The step benchmark: tetrac's fp32 and tetrajet against PyTorch, interleaved. Arguments go to tests/bench/steps.py, e.g.
#   sh tools/bench.sh --dim 192 --depth 6 --batch 128 --rounds 5 --json bench.json
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
sh "$root/tools/setup.sh" --tests
sh "$root/tools/build.sh" >&2
exec "$root/build/venv/bin/python" "$root/tests/bench/steps.py" "$root/build/tetrac" "$@"
