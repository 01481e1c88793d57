#!/bin/sh
# A trainer that starts on a lesser CPU than it was compiled for says what is missing, and ends; `info` runs anywhere. The CPUs are
# qemu-user's.
. "$(dirname "$0")/common.sh"
tiny() { "$tetrac" new vit --image 8 --patch 4 --channels 1 --classes 3 --dim 32 --depth 1 --heads 1 -o "$work/m.onnx"; }
refused() {
  expect 1 "$@" train --data synthetic:8 --no-eval --max-steps 1 --out "$work/run"
  says "trainer: error: this trainer was compiled for a CPU with"
  says "tetrac compile --target"
}
ran=no
if [ "$(uname -m)" = x86_64 ] && command -v qemu-x86_64 >/dev/null; then
  ran=yes
  tiny
  "$tetrac" compile "$work/m.onnx" --recipe fp32 --batch 4 --quiet --target cpu:v4+avx512bf16+amx-tile+amx-int8 -o "$work/v4"
  refused qemu-x86_64 -cpu Haswell "$work/v4"
  for feature in avx512f avx512bw avx512vnni avx512bf16 amx-tile; do says "$feature"; done
  expect 0 qemu-x86_64 -cpu Haswell "$work/v4" info
  "$tetrac" compile "$work/m.onnx" --recipe fp32 --batch 4 --quiet --target cpu:v3 -o "$work/v3"
  refused qemu-x86_64 -cpu Nehalem "$work/v3"
  says "avx, avx2, fma"
  expect 0 qemu-x86_64 -cpu max "$work/v3" train --data synthetic:8 --no-eval --max-steps 1 --threads 1 --out "$work/run"
fi
if [ "$(uname -m)" != aarch64 ] && command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null && [ -e "$build/aarch64/libtetrac_rt.a" ]; then
  ran=yes
  tiny
  "$tetrac" compile "$work/m.onnx" --recipe fp32 --batch 4 --quiet --target aarch64 -o "$work/dotprod"
  refused qemu-aarch64 -cpu cortex-a53 "$work/dotprod"
  says "dotprod"
fi
[ $ran = yes ] || { echo "SKIP: no qemu-user (sh tools/setup.sh --tests installs it)"; exit 77; }
echo "PASS cpu"
