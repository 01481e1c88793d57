#!/bin/sh
# What the backward makes again changes memory alone: trainers compiled under each setting end with the same bits, and each takes
# less memory than the one before (cheap at most as much as none: there may be nothing cheap to make again).
. "$(dirname "$0")/common.sh"
small_vit -o "$work/m.onnx"
before=
set_to() { echo "--recipe tetrajet --batch 16 --set memory.goal=0 --set memory.recompute=$1"; }
for level in none cheap most all; do
  "$tetrac" compile "$work/m.onnx" $(set_to $level) --quiet -o "$work/t"
  "$work/t" train --data synthetic --no-eval --out "$work/$level" --max-steps 3 >/dev/null 2>"$work/err"
  bytes=$("$tetrac" inspect "$work/m.onnx" $(set_to $level) --format json |
          sed -n '/"train"/,/}/s/.*"arena_bytes":[^0-9]*\([0-9]*\).*/\1/p')
  cmp "$work/none/state.safetensors" "$work/$level/state.safetensors"
  [ -z "$before" ] || [ "$bytes" -lt "$before" ] || { [ $level = cheap ] && [ "$bytes" -eq "$before" ]; } || { echo "FAIL: $level plans $bytes bytes, the setting before it $before"; exit 1; }
  before=$bytes
done
expect 1 "$tetrac" compile "$work/m.onnx" --recipe tetrajet --set memory.recompute=some -o "$work/t"
says "memory.recompute is 'some', expected one of none, cheap, most, all"
echo "PASS recomputation: same final bits, less memory"
