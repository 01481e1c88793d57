#!/bin/sh
# Per-tensor INT4, the older baseline, through the whole house: it learns, the same bits for any thread count and after a
# break, tracking changes none of them, its weights export; other controls and layer choices go with it.
. "$(dirname "$0")/common.sh"
cd "$work"
"$tetrac" new vit --image 28 --patch 7 --channels 1 --classes 10 --dim 32 --depth 1 --heads 2 -o m.onnx
"$tetrac" list recipes | grep -q '^int4-per-tensor ' || { echo "FAIL: the recipe is not listed"; exit 1; }
expect 0 "$tetrac" compile m.onnx --recipe int4-per-tensor --batch 16 --set optimizer.warmup-epochs=0 -o t
says '4 linears in INT4'
train() { ./t train --data synthetic --epochs 4 --lr 0.003 --no-eval "$@" >out 2>&1 || { cat out; exit 1; }; }
train --max-steps 40 --threads 1 --out one
train --max-steps 40 --threads 3 --track 20 --track-window 10 --out three
cmp one/state.safetensors three/state.safetensors
grep -q '"quantizer_error":{"q1":0.[0-9]*,"q2":0.[0-9]*,"q3":0.[0-9]*,"q4":0,"q5":0.[0-9]*,"q6":0}' three/track.jsonl ||
  { echo "FAIL: moving codes loses nothing, rounding does"; cat three/track.jsonl; exit 1; }
train --max-steps 23 --threads 2 --out parts
train --max-steps 40 --threads 1 --out parts --resume
cmp one/state.safetensors parts/state.safetensors
awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "loss") c = i } NR == 2 { first = $c } { last = $c }
  END { if (!(last < 0.9 * first)) { print "FAIL: loss " first " -> " last; exit 1 } }' one/metrics.csv
expect 0 ./t export --state one/state.safetensors -o trained.onnx
[ -s trained.onnx ]

# Same graph from text; a layer skipped; what oscillation control there is.
expect 0 "$tetrac" inspect m.onnx --recipe int4-per-tensor --batch 4 --after autodiff -o a.ttir
grep -q 'mx.requantize(.*{q=int4:tensor:stochastic:double' a.ttir
"$build/tetrac-opt" a.ttir >b.ttir && "$build/tetrac-opt" b.ttir | cmp - b.ttir
expect 0 "$tetrac" inspect m.onnx --recipe int4-per-tensor --batch 4 --set "layers.skip=*fc2*" --after lower_mx -o c.ttir
[ "$(grep -c mx.gemm c.ttir)" = 3 ] || { echo "FAIL: one of four linears was to be skipped"; exit 1; }
expect 0 "$tetrac" compile m.onnx --recipe int4-per-tensor --batch 16 --set oscillation.control=freeze --quiet -o t
train --max-steps 3 --out freeze
expect 1 "$tetrac" compile m.onnx --recipe int4-per-tensor --set q2.rounding=ema --set oscillation.control=ema -o t2
says 'Q-EMA belongs to MXFP4'
expect 1 "$tetrac" compile m.onnx --recipe int4-per-tensor --set q2.format=e2m1 --set q2.scale=ceil -o t2
says 'q1.format is int4 and q2.format is e2m1'
expect 1 "$tetrac" compile m.onnx --recipe int4-per-tensor --set q3.scale=floor -o t2
says 'INT4 has one scale for the whole tensor'
[ ! -e t2 ]
echo "PASS int4"
