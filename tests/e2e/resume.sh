#!/bin/sh
# Killed in the middle and resumed, a run ends with the bits of an uninterrupted one.
. "$(dirname "$0")/common.sh"
small_vit -o "$work/m.onnx"
"$tetrac" compile "$work/m.onnx" --recipe tetrajet --batch 16 --quiet -o "$work/t"
options="--data synthetic --max-steps 60 --no-eval --save-every 7"
expect 0 "$work/t" train $options --out "$work/whole"
"$work/t" train $options --out "$work/killed" >/dev/null 2>&1 & pid=$!
while [ ! -e "$work/killed/state.safetensors" ] && kill -0 $pid 2>/dev/null; do sleep 0.02; done
sleep 0.1
kill -9 $pid 2>/dev/null || echo "note: the run ended before it could be killed"
wait $pid 2>/dev/null || true
expect 0 "$work/t" train $options --out "$work/killed" --resume
cmp "$work/whole/state.safetensors" "$work/killed/state.safetensors"
echo "PASS resume: same final bits after kill -9"
