#!/bin/sh
# Every shipped recipe goes through all pipelines; what does not fit together is refused by key and file.
. "$(dirname "$0")/common.sh"
"$tetrac" new vit --image 28 --patch 14 --channels 1 --classes 10 --dim 32 --depth 2 --heads 2 -o "$work/m.onnx"
"$tetrac" list recipes | cut -d' ' -f1 >"$work/names"
[ "$(wc -l <"$work/names")" -ge 26 ] || { echo "FAIL: too few recipes"; exit 1; }
while read -r name; do expect 0 "$tetrac" inspect "$work/m.onnx" --batch 4 --recipe "$name" -o "$work/g.text"; done <"$work/names"
refused() { # TEXT SET...
  text=$1
  shift
  for set; do set -- "$@" --set "$set"; shift; done
  expect 1 "$tetrac" compile "$work/m.onnx" --batch 4 --recipe tetrajet "$@" -o "$work/t"
  says "$text"
}
refused "only q2 can follow a moving average, q1 quantizes activations" q1.rounding=ema
refused "only q2 can follow a moving average, q3 quantizes gradients" q3.rounding=ema
refused "tetrajet.ini: error: q2.rounding = ema needs oscillation.control = ema" q2.rounding=ema
refused "needs q2.rounding = ema" oscillation.control=ema
refused "blocks of MXFP4 have 32 elements" mx.block=16
refused "oscillation.control = freeze, but q2 is disabled" oscillation.control=freeze q2=off
expect 0 "$tetrac" inspect "$work/m.onnx" --batch 4 --recipe tetrajet --set layers.first-blocks=1 -o "$work/g.text"
gemms=$(grep -c 'mx.gemm' "$work/g.text")
expect 0 "$tetrac" inspect "$work/m.onnx" --batch 4 --recipe tetrajet -o "$work/g.text"
[ $((2 * gemms)) = "$(grep -c 'mx.gemm' "$work/g.text")" ] || { echo "FAIL: one of two blocks is not half the products"; exit 1; }
echo "PASS recipes"
