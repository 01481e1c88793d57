#!/bin/sh
# The command line as a user meets it: help, lists, usage errors (2), user errors (1), every inspect and emit format.
. "$(dirname "$0")/common.sh"
expect 0 "$tetrac" --help
says "tetrac compile"
for c in new compile inspect run report list; do expect 0 "$tetrac" $c --help; says "usage: tetrac $c"; done
for l in ops passes recipes models targets; do expect 0 "$tetrac" list $l; done
expect 2 "$tetrac"
expect 2 "$tetrac" frobnicate
expect 2 "$tetrac" list cheeses
expect 2 "$tetrac" compile
expect 2 "$tetrac" new vit --dim twelve -o "$work/x.onnx"
expect 2 "$tetrac" new vit --dim
expect 1 "$tetrac" new vit --dim 65 --heads 2 -o "$work/x.onnx"
says "error:"
expect 1 "$tetrac" compile "$work/missing.onnx" -o "$work/t"
says "missing.onnx"
echo "not a model" >"$work/bad.onnx"
expect 1 "$tetrac" compile "$work/bad.onnx" -o "$work/t"
says "bad.onnx"
small_vit -o "$work/m.onnx"
head -c 5000 "$work/m.onnx" >"$work/cut.onnx"
expect 1 "$tetrac" compile "$work/cut.onnx" -o "$work/t"
expect 1 "$tetrac" compile "$work/m.onnx" --recipe nosuch -o "$work/t"
says "nosuch"
expect 1 "$tetrac" compile "$work/m.onnx" --set q3.rounding=upwards -o "$work/t"
says "rounding"
long=$(printf '%05000d' 0)
expect 1 "$tetrac" inspect "$work/m.onnx" --set "q1.x=$long"
says "unknown key"
expect 1 "$tetrac" compile "$work/m.onnx" --target "$long" -o "$work/t"
says "unknown target '000"
says "\`tetrac list targets\`"
expect 1 "$tetrac" inspect "$work/m.onnx" --batch 4 --after "$long"
says "'tetrac list passes'"
expect 1 "$tetrac" inspect "$work/m.onnx" --batch 4 -o "$long"
says "File name too long"
expect 1 "$tetrac" inspect "$work/m.onnx" --recipe /dev/zero
says "cannot read the recipe: File too large"
expect 1 "$tetrac" compile "$work/m.onnx" --batch 4 -o "$work/no/such/folder/t"
says "cannot write"
expect 2 "$tetrac" compile "$work/m.onnx" --batch 0 -o "$work/t"
says "at least 1"
expect 2 "$tetrac" inspect "$work/m.onnx" --batch -3
says "at least 1"
expect 1 "$tetrac" inspect "$work/m.onnx" --batch 9223372036854775807
says "too many elements with a batch of 9223372036854775807: at most 2^44"
expect 1 "$tetrac" compile "$work/m.onnx" --batch 4 -o "$work"
says "is a folder"
# An open batch is as many images as the first input has; --batch is asked for first.
printf '\223NUMPY\001\000\166\000%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1, 28, 28), }" >"$work/x.npy"
head -c 9408 /dev/zero >>"$work/x.npy"
expect 0 "$tetrac" run "$work/m.onnx" --inputs "$work/x.npy" -o "$work/y"
grep -aq "'shape': (3, 10,)" "$work/y/output_0.npy"
expect 1 "$tetrac" run "$work/m.onnx" --inputs "$work/x.npy" --batch 4 -o "$work/y"
says "holds f32[3,1,28,28]"
ln -s m.onnx "$work/link.onnx"
cp "$work/m.onnx" "$work/kept.onnx"
expect 1 "$tetrac" compile "$work/m.onnx" --batch 4 -o "$work/link.onnx"
says "is the model itself"
cmp "$work/m.onnx" "$work/kept.onnx"
# What is no regular file is written or refused, never replaced.
mkfifo "$work/pipe"
expect 1 "$tetrac" compile "$work/m.onnx" --batch 4 -o "$work/pipe"
says "is no regular file"
cat "$work/pipe" >"$work/piped.onnx" &
expect 0 small_vit -o "$work/pipe"
wait
[ -p "$work/pipe" ]
cmp "$work/m.onnx" "$work/piped.onnx"
code=0
"$tetrac" inspect "$work/m.onnx" --batch 4 >/dev/full 2>"$work/err" || code=$?
[ "$code" = 1 ]
says "cannot write to standard output"
[ ! -e "$work/t" ] || { echo "FAIL: a failed compile left a trainer"; exit 1; }
# Drawings within a minute: without limits Graphviz takes several for this graph.
for f in text dot svg html json onnx memory; do expect 0 timeout 60 "$tetrac" inspect "$work/m.onnx" --batch 4 --format $f -o "$work/g.$f"; done
grep -q 'mx.gemm' "$work/g.text"
grep -q 'mx.requantize' "$work/g.text"
for f in svg html; do grep -q '</svg>' "$work/g.$f"; done
expect 0 "$tetrac" inspect "$work/m.onnx" --batch 4 --after canon_linear
expect 1 "$tetrac" inspect "$work/m.onnx" --batch 4 --after no_such_pass
for e in llvm asm obj; do expect 0 "$tetrac" compile "$work/m.onnx" --recipe fp32 --batch 4 --emit $e -o "$work/p.$e"; done
grep -q 'define' "$work/p.llvm"
grep -q 'tetrac_program' "$work/p.asm"
# An executable that was copied without its recipes says so: it looks beside and above itself, so it must be deep enough to
# see nothing but this test's folder.
mkdir -p "$work/a/b"
cp "$tetrac" "$work/a/b/tetrac"
expect 1 "$work/a/b/tetrac" list recipes
says "no recipes are in"
expect 1 "$work/a/b/tetrac" inspect "$work/m.onnx"
says "no recipes are in"
echo "PASS commands"
