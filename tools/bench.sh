#!/bin/sh
# The benchmark: builds tetrac, installs what it is compared with, measures, prints a report. About 25 minutes on 2
# quiet cores (--minutes N); a stopped run goes on where it was. Arguments go to tests/bench/bench.py (--help lists them), e.g.
#   sh tools/bench.sh --publish docs/performance.md
#   sh tools/bench.sh --models vit-28 --threads 2 --rounds 3 --kernels ''
# TETRAC_BENCH_PYTHON names a Python with another PyTorch.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python="${TETRAC_BENCH_PYTHON:-$root/build/bench-venv/bin/python}"
[ -n "${TETRAC_BENCH_PYTHON:-}" ] || sh "$root/tools/setup.sh" --bench
TETRAC_TARGETS="tetrac bench_kernels" sh "$root/tools/build.sh" >&2
exec "$python" "$root/tests/bench/bench.py" "$root/build/tetrac" --python "$python" "$@"
