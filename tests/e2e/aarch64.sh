#!/bin/sh
# Trainers for AArch64, linked here and run under qemu-user: with smmla, sdot and neither, on one thread and on three, all
# leave the same state bit for bit; their losses are those of x86 but for the order in which float32 sums are added.
. "$(dirname "$0")/common.sh"
[ "$(uname -m)" != aarch64 ] || { echo "SKIP: this machine is one"; exit 77; }
for program in aarch64-linux-gnu-gcc qemu-aarch64; do
  command -v $program >/dev/null || { echo "SKIP: no $program (sh tools/setup.sh --tests installs it)"; exit 77; }
done
[ -e "$build/aarch64/libtetrac_rt.a" ] || { echo "SKIP: no runtime was built for AArch64"; exit 77; }

"$tetrac" new vit --image 16 --patch 8 --channels 1 --classes 4 --dim 32 --depth 1 --heads 1 -o "$work/m.onnx"
compile() { "$tetrac" compile "$work/m.onnx" --batch 4 --recipe tetrajet-qema --quiet --target "$1" -o "$work/$2"; }
compile aarch64 dotprod
compile aarch64:v8 v8
compile aarch64:i8mm i8mm
compile cpu here
[ "$("$build/tetrac" compile "$work/m.onnx" --batch 4 --quiet --target aarch64-linux-gnu --emit asm -o - | grep -c 'sdot')" -gt 100 ] ||
  { echo "FAIL: no sdot for aarch64"; exit 1; }

# train NAME THREADS COMMAND...: three steps and what they leave
train() {
  name=$1 threads=$2
  shift 2
  expect 0 "$@" train --data synthetic:64 --no-eval --max-steps 3 --log-every 1 --threads "$threads" --out "$work/run.$name"
}
train dot1 1 qemu-aarch64 -cpu cortex-a76 "$work/dotprod"
train dot3 3 qemu-aarch64 -cpu cortex-a76 "$work/dotprod"
train v8 1 qemu-aarch64 -cpu cortex-a53 "$work/v8"
train i8mm 1 qemu-aarch64 -cpu max "$work/i8mm"
train here 1 "$work/here"
for other in dot3 v8 i8mm; do
  cmp "$work/run.dot1/state.safetensors" "$work/run.$other/state.safetensors" || { echo "FAIL: dot1 and $other leave different states"; exit 1; }
done
losses() { sed -n 's/.*"loss":\([^,]*\),.*/\1/p' "$work/run.$1/metrics.jsonl"; }
losses dot1 >"$work/arm"
losses here >"$work/x86"
paste "$work/arm" "$work/x86" | awk '
  { d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > (NR == 1 ? 1e-6 : 1e-3)) bad = 1; print "step " NR ": loss " $1 " on AArch64, " $2 " here" }
  END { exit bad || NR != 3 }' || { echo "FAIL: losses are not those of x86"; exit 1; }
echo "PASS aarch64"
