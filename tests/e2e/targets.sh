#!/bin/sh
# What is generated for a target is what the target has: int8 dot products of 512 bits with VNNI, of 256 without; and nothing
# in the trainer's object but the runtime call and the C library's memory moves is called from outside.
. "$(dirname "$0")/common.sh"
small_vit -o "$work/m.onnx"
"$tetrac" compile "$work/m.onnx" --batch 4 --quiet --target cpu:v4 --emit asm -o "$work/v4.s"
"$tetrac" compile "$work/m.onnx" --batch 4 --quiet --target cpu:v3 --emit asm -o "$work/v3.s"
grep -q 'vpdpbusd.*zmm' "$work/v4.s" || { echo "FAIL: v4 has no vpdpbusd on zmm"; exit 1; }
grep -q 'vpmaddubsw.*ymm' "$work/v3.s" || { echo "FAIL: v3 has no vpmaddubsw on ymm"; exit 1; }
if grep -q 'zmm' "$work/v3.s"; then echo "FAIL: v3 uses zmm"; exit 1; fi
"$tetrac" compile "$work/m.onnx" --batch 4 --quiet --emit obj -o "$work/m.o"
undefined=$(nm -u "$work/m.o" | awk '{print $2}' | grep -vE '^(trt_parallel|memcpy|memset|memmove)$' || true)
[ -z "$undefined" ] || { echo "FAIL: generated code calls $undefined"; exit 1; }
expect 1 "$tetrac" compile "$work/m.onnx" --target cpu:v17 -o "$work/t"
says "v17"
expect 1 "$tetrac" compile "$work/m.onnx" --target cpu:v3, -o "$work/t"
says "is no feature; write +NAME"
expect 1 "$tetrac" compile "$work/m.onnx" --target cpu:v3+ -o "$work/t"
says "is no feature; write +NAME"
expect 1 "$tetrac" compile "$work/m.onnx" --target cpu:v3,-fma,nosuch -o "$work/t"
says "'nosuch' is no feature"
# On any machine, for any other; also a true one that a trainer could not ask for at its start.
for t in x86_64:v3+avxvnnix x86_64:+x aarch64:v8+dotprd aarch64:dotprod,-dotprd aarch64:+sme aarch64:+avx2; do
  expect 1 "$tetrac" compile "$work/m.onnx" --batch 4 --target $t --emit obj -o "$work/t"
  says "is no feature that a trainer can ask an ${t%%:*} CPU for; those are"
done
says "dotprod, sve, fp16fml"
"$tetrac" compile "$work/m.onnx" --batch 4 --quiet --target aarch64:v8+dotprod --emit asm -o "$work/sdot.s"
grep -q sdot "$work/sdot.s" || { echo "FAIL: aarch64:v8+dotprod has no sdot"; exit 1; }
if [ "$(uname -m)" = x86_64 ]; then
  "$tetrac" compile "$work/m.onnx" --batch 4 --quiet --target cpu:v4+amx-tile+amx-int8 --emit asm -o "$work/amx.s"
  grep -q tdpbusd "$work/amx.s" || { echo "FAIL: amx-tile and amx-int8 give no tdpbusd"; exit 1; }
fi
echo "PASS targets"
