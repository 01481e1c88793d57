#!/bin/sh
# The benchmark's scripts run: a tiny model, one round, no peer that compiles; a second run goes on with the first's samples.
. "$(dirname "$0")/common.sh"
needs_python
bench() {
  "$python" "$root/tests/bench/bench.py" "$tetrac" --python "$python" --json "$work/bench.json" --models mini --threads 1 \
    --peers tetrajet,torch-sim --kernels '' --compiles 1 --limited cpu:v3 --limited-rounds 1 --recompute-rounds 1 "$@"
}
printf 'Before.\n<!-- measured -->\nold\n<!-- end -->\nAfter.\n' >"$work/page.md"
expect 0 bench --rounds 1 --publish "$work/page.md"
says 'against the simulation'
grep -q '^| PyTorch, TetraJet simulated |' "$work/page.md"
if grep -q avx2 /proc/cpuinfo; then grep -q '^| AVX2 ' "$work/page.md"; fi
grep -q '^| `recompute=all`, `goal=0` |' "$work/page.md"
grep -q '^After.$' "$work/page.md"
if grep -q '^old$' "$work/page.md"; then echo "FAIL: the page keeps its old report"; exit 1; fi
expect 0 bench --rounds 1
says 'going on with the samples'
if grep -q 'round 1:' "$work/err"; then echo "FAIL: a second run measured again"; exit 1; fi
expect 0 bench --render
says '### Compiling'
expect 2 bench --models nothing
says 'nothing is not one of'
for name in "$(hostname)" "$work" "$root"; do
  if grep -qF -- "$name" "$work/page.md"; then echo "FAIL: the page names $name"; exit 1; fi
done
echo "PASS: bench"
