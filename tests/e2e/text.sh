#!/bin/sh
# A real training graph, memory plan and all, goes through its text unchanged; so does each stage on the way there.
. "$(dirname "$0")/common.sh"
opt=$build/tetrac-opt
small_vit -o "$work/m.onnx"
for stage in canon_attention lower_mx autodiff plan_memory; do
  expect 0 "$tetrac" inspect "$work/m.onnx" --recipe tetrajet --batch 4 --after $stage --format text -o "$work/a.ttir"
  "$opt" "$work/a.ttir" >"$work/full.ttir"
  "$opt" "$work/full.ttir" | cmp - "$work/full.ttir"
  # What inspect leaves out of big vars reads as zeros; the graphs are the same to the byte.
  sed -n '/^graph/,$p' "$work/a.ttir" >"$work/a.graphs"
  sed -n '/^graph/,$p' "$work/full.ttir" | cmp - "$work/a.graphs"
  [ "$(wc -l <"$work/a.graphs")" -gt 20 ] || { echo "FAIL: no graph after $stage"; exit 1; }
done
echo "PASS text"
