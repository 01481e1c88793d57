#!/bin/sh
# A step has the same bits with and without the fusion of what goes row by row, for every number of threads.
# Batch 64 makes tasks enough that products in front share an operand.
. "$(dirname "$0")/common.sh"
small_vit -o "$work/m.onnx"
expect 0 "$tetrac" inspect "$work/m.onnx" --recipe fp32 --batch 48
says 'of=[linear,gelu]'
says 'colsum=1'
for recipe in tetrajet microscaling fp32; do
  TETRAC_SKIP=fuse_quantize "$tetrac" compile "$work/m.onnx" --recipe $recipe --batch 64 --quiet -o "$work/apart"
  "$tetrac" compile "$work/m.onnx" --recipe $recipe --batch 64 --quiet -o "$work/fused"
  "$work/apart" train --data synthetic --max-steps 3 --no-eval --threads 2 --out "$work/0" >/dev/null 2>"$work/err"
  for n in 1 2 3; do
    "$work/fused" train --data synthetic --max-steps 3 --no-eval --threads $n --out "$work/$n" >/dev/null 2>"$work/err"
    cmp "$work/0/state.safetensors" "$work/$n/state.safetensors"
  done
  rm -rf "$work/0" "$work/1" "$work/2" "$work/3"
done
echo "PASS fusion: the same bits with and without, on 1, 2 and 3 threads"
