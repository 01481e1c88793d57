#!/bin/sh
# Q-Ramping's calibrations: a run that is killed inside one, or asked to stop there, ends with the bits of an uninterrupted
# run; and a calibration leaves nothing behind but periods.
. "$(dirname "$0")/common.sh"
"$tetrac" new vit --image 28 --patch 7 --channels 1 --classes 10 --dim 32 --depth 1 --heads 2 -o "$work/m.onnx"
compile() { out=$1; shift; "$tetrac" compile "$work/m.onnx" --batch 8 --quiet -o "$work/$out" "$@"; }
# Calibrations far longer than the steps between them: 12 steps, three calibrations before steps 1, 6 and 11.
compile t --recipe tetrajet-qramping --set oscillation.ramp-every=5 --set oscillation.ramp-t0=600
train() { "$work/t" train --data synthetic --lr 0.0003 --no-eval --save-every 5 --max-steps 12 --threads "$2" --out "$work/$1" $3 2>"$work/err"; }
train whole 1 "" || { cat "$work/err"; exit 1; }

# interrupt FOLDER SIGNAL: starts a run and sends the signal inside the second calibration, which begins as step 5 is saved.
interrupt() {
  "$work/t" train --data synthetic --lr 0.0003 --no-eval --save-every 5 --max-steps 12 --threads 1 --out "$work/$1" >/dev/null 2>"$work/err" & pid=$!
  while [ ! -e "$work/$1/state.safetensors" ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
  sleep 0.05
  kill "-$2" $pid || { echo "FAIL: the run was over before its second calibration was"; exit 1; }
  code=0
  wait $pid || code=$?
}
saved_step() { grep -ao '"tetrac.step":"[0-9]*"' "$work/$1/state.safetensors"; }

interrupt killed KILL
[ "$(saved_step killed)" = '"tetrac.step":"5"' ] || { echo "FAIL: killed after $(saved_step killed), not in the calibration"; exit 1; }
train killed 2 --resume
cmp "$work/whole/state.safetensors" "$work/killed/state.safetensors"

interrupt stopped INT
[ "$code" = 130 ] && [ "$(saved_step stopped)" = '"tetrac.step":"5"' ] || { echo "FAIL: exit $code, $(saved_step stopped)"; cat "$work/err"; exit 1; }
train stopped 1 --resume
cmp "$work/whole/state.safetensors" "$work/stopped/state.safetensors"

# With a k1 that no ratio reaches all periods are 1, and the weights are those of tetrajet to the bit.
compile one --recipe tetrajet-qramping --set oscillation.ramp-every=5 --set oscillation.ramp-t0=20 --set oscillation.ramp-k1=1e30
compile plain --recipe tetrajet
for t in one plain; do
  "$work/$t" train --data synthetic --no-eval --max-steps 12 --out "$work/$t.run" 2>/dev/null
  "$work/$t" export --state "$work/$t.run/state.safetensors" -o "$work/$t.onnx" 2>/dev/null
done
cmp "$work/one.onnx" "$work/plain.onnx"
echo "PASS calibration: same bits after a break inside one, nothing left behind by them"
