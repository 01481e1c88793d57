#!/bin/sh
# Tracking: changes no bit of the training, says the same for any thread count, goes on where a run was resumed.
. "$(dirname "$0")/common.sh"
cd "$work"
"$tetrac" new vit --image 28 --patch 7 --channels 1 --classes 10 --dim 64 --depth 1 --heads 2 -o m.onnx
expect 0 "$tetrac" compile m.onnx --recipe tetrajet-qema --batch 16 -o t
train() { ./t train --data synthetic --epochs 3 --no-eval "$@" >out 2>&1 || { cat out; exit 1; }; }
train --max-steps 40 --threads 1 --out plain
train --max-steps 40 --threads 1 --track 20 --track-window 10 --out one
train --max-steps 40 --threads 3 --track 20 --track-window 10 --out three
grep -q 'tracking took [0-9.]* % as long as the steps' out
cmp plain/state.safetensors one/state.safetensors
cmp one/state.safetensors three/state.safetensors
cmp one/track.jsonl three/track.jsonl
[ ! -e plain/track.jsonl ]
grep -q '^{"step":20,"epoch":[0-9.]*,"window":10,.*"total":{"name":"all","elements":49152,' one/track.jsonl
grep -q '"quantizer_error":{"q1":[0-9.e-]*,"q2":[0-9.e-]*,"q3":[0-9.e-]*,"q4":[0-9.e-]*,"q5":[0-9.e-]*,"q6":[0-9.e-]*}' one/track.jsonl
grep -q '"rate_y":0\.[0-9]*,' one/track.jsonl
tail -1 one/track.jsonl | grep -q '"trajectories":\[{"name":".*,"w":\['

# Interrupted behind a record, then resumed: the same record at the end, none twice.
train --max-steps 40 --threads 1 --track 20 --track-window 10 --save-every 20 --out cut
cp -r cut again
printf '{"step":40,"torn' >>again/track.jsonl
train --max-steps 40 --threads 1 --track 20 --track-window 10 --save-every 20 --out again --resume
cmp one/track.jsonl again/track.jsonl

# By the last step of a window nothing of it is known before it opens: a run of fewer steps than a window has one record.
train --max-steps 6 --threads 1 --track --out short
[ "$(wc -l <short/track.jsonl)" = 1 ]
grep -q '"window":6' short/track.jsonl

# A second run in the folder, without tracking, is not taken for the first one's.
train --max-steps 2 --threads 1 --out short
[ ! -s short/track.jsonl ]
expect 2 ./t train --data synthetic --track -3
expect 0 "$tetrac" compile m.onnx --recipe fp32 --batch 16 -o t
train --max-steps 6 --threads 1 --track --out float
grep -q '"rate_w"' float/track.jsonl
grep -q '"rate_y":0' float/track.jsonl
if grep -q '"ratio"' float/track.jsonl; then echo "FAIL: float32 weights do not oscillate"; exit 1; fi
expect 0 "$tetrac" report plain one three again short float -o r.html --table
says '| tetrajet-qema | 5 |'

# Records of single steps: each has its pair of looks at the output; a block that is not there is refused when compiling.
train --max-steps 3 --threads 1 --track 1 --out single
[ "$(grep -c '"window":1,"rate_y":0' single/track.jsonl)" = 3 ]
expect 1 "$tetrac" compile m.onnx --set track.block=2 --batch 16 -o no
says 'track.block = 2, but the model has 1 block'
echo "PASS track"
