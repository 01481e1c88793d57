#!/bin/sh
# One fp32 step of a `tetrac new` model and of the real exports: loss, logits and every gradient against PyTorch (float64).
. "$(dirname "$0")/common.sh"
needs_python
check() { # MODEL BATCH
  "$tetrac" compile "$1" --recipe fp32 --batch "$2" --quiet -o "$work/t"
  "$python" "$root/tests/tensors.py" batch "$work/batch.safetensors" --shape "$2,1,28,28" --classes 10
  "$work/t" grad --batch "$work/batch.safetensors" -o "$work/got.safetensors"
  "$work/t" export -o "$work/image.onnx"
  "$python" "$root/tests/onnx/reference.py" "$work/image.onnx" --batch "$work/batch.safetensors" -o "$work/want.safetensors"
  printf '%s: ' "$(basename "$1")"
  "$python" "$root/tests/tensors.py" compare "$work/got.safetensors" "$work/want.safetensors" --tolerance 1e-5
}
small_vit -o "$work/new_vit.onnx"
check "$work/new_vit.onnx" 3
if [ -d "$models" ]; then
  check "$models/timm_vit_fmnist_ts17.onnx" 4
  check "$models/timm_vit_fmnist_dy18.onnx" 2
else
  echo "SKIP: the real exports are not beside this checkout"
fi
