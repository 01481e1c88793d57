#!/bin/sh
# Whole trainings: after two epochs of Fashion-MNIST, fp32 and tetrajet both stand above 78 % test accuracy, and close together.
. "$(dirname "$0")/common.sh"
"$tetrac" new vit --image 28 --patch 4 --channels 1 --classes 10 --dim 96 --depth 4 --heads 4 -o "$work/m.onnx"
for recipe in fp32 tetrajet; do
  "$tetrac" compile "$work/m.onnx" --recipe $recipe --batch 128 --quiet -o "$work/t"
  "$work/t" train --data fashion-mnist --epochs 2 --out "$work/$recipe" >/dev/null 2>"$work/err"
  "$work/t" eval --data fashion-mnist --state "$work/$recipe/state.safetensors" --json >"$work/$recipe.json"
  echo "$recipe $(cat "$work/$recipe.json")"
done
accuracy() { sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' "$work/$1.json"; }
awk -v a="$(accuracy fp32)" -v b="$(accuracy tetrajet)" 'BEGIN {
  d = a - b; if (d < 0) d = -d
  if (a < 0.78 || b < 0.78 || d > 0.03) { print "FAIL: fp32 " a ", tetrajet " b; exit 1 }
  print "PASS: fp32 " a ", tetrajet " b }'
