#!/bin/sh
# A trained model exported to ONNX gives, in onnxruntime, the logits that the trainer computes.
. "$(dirname "$0")/common.sh"
needs_python
small_vit -o "$work/m.onnx"
"$tetrac" compile "$work/m.onnx" --recipe fp32 --batch 8 --quiet -o "$work/t"
"$work/t" train --data synthetic --max-steps 5 --no-eval --out "$work/run" >/dev/null 2>"$work/err"
"$work/t" export --state "$work/run/state.safetensors" -o "$work/trained.onnx"
"$python" "$root/tests/tensors.py" batch "$work/batch.safetensors" --shape 8,1,28,28 --classes 10
"$work/t" grad --state "$work/run/state.safetensors" --batch "$work/batch.safetensors" -o "$work/got.safetensors"
"$python" - "$root/tests" "$work" <<'P'
import sys
sys.path.insert(0, sys.argv[1])
import onnx, onnxruntime, tensors
work = sys.argv[2]
onnx.checker.check_model(work + "/trained.onnx", full_check=True)
session = onnxruntime.InferenceSession(work + "/trained.onnx")
batch, _ = tensors.load(work + "/batch.safetensors")
images = batch["images"]
tensors.save(work + "/want.safetensors", {"logits": session.run(None, {session.get_inputs()[0].name: images})[0]})
P
"$python" "$root/tests/tensors.py" compare "$work/got.safetensors" "$work/want.safetensors" --tolerance 1e-5
