#!/bin/sh
# Same seed, same bits: the state after five steps does not depend on the number of threads, nor on how OpenMP
# is told to make and place them.
. "$(dirname "$0")/common.sh"
small_vit -o "$work/m.onnx"
for recipe in fp32 tetrajet; do
  "$tetrac" compile "$work/m.onnx" --recipe $recipe --batch 16 --quiet -o "$work/t"
  for n in 1 2 3; do
    "$work/t" train --data synthetic --max-steps 5 --no-eval --threads $n --out "$work/$n" >/dev/null 2>"$work/err"
    cmp "$work/1/state.safetensors" "$work/$n/state.safetensors"
  done
  for limit in OMP_THREAD_LIMIT=2 OMP_PROC_BIND=true; do
    env $limit "$work/t" train --data synthetic --max-steps 5 --no-eval --threads 4 --out "$work/4" >/dev/null 2>"$work/err"
    cmp "$work/1/state.safetensors" "$work/4/state.safetensors"
  done
  rm -rf "$work/4" "$work/1" "$work/2" "$work/3"
done
echo "PASS threads: 1, 2 and 3 threads give the same bits"
