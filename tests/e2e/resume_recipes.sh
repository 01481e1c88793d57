#!/bin/sh
# Stopped and resumed, a run ends with the bits of an uninterrupted one under every kind of oscillation control: what each
# keeps of the past (averages, marks) is in the checkpoint. The break lies before the step at which ema rounding begins.
. "$(dirname "$0")/common.sh"
"$tetrac" new vit --image 28 --patch 7 --channels 1 --classes 10 --dim 32 --depth 1 --heads 2 -o "$work/m.onnx"
check() { # RECIPE STATE-PREFIX [--set KEY=VALUE...]
  recipe=$1 prefix=$2
  shift 2
  "$tetrac" compile "$work/m.onnx" --recipe "$recipe" --batch 8 --quiet -o "$work/t" "$@"
  for run in whole parts; do rm -rf "$work/$run"; done
  train() { "$work/t" train --data synthetic --no-eval --out "$work/$1" --max-steps "$2" $3 >/dev/null 2>"$work/err"; }
  train whole 30 ""
  train parts 7 ""
  train parts 23 --resume
  train parts 30 --resume
  cmp "$work/whole/state.safetensors" "$work/parts/state.safetensors"
  grep -qa "$prefix" "$work/whole/state.safetensors" || { echo "FAIL: no $prefix in the state of $recipe"; exit 1; }
}
check tetrajet-qema '"ema:'
check tetrajet-dampen '"m:'
check tetrajet-freeze '"freeze-mark:' --set oscillation.freeze-threshold=0.005
echo "PASS resume under oscillation control: same final bits"
