#!/bin/sh
# The whole path in one command: install what is missing, build, make a small ViT, compile it with the tetrajet recipe,
# train it on Fashion-MNIST, evaluate.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
sh "$root/tools/setup.sh"
sh "$root/tools/build.sh"
out=${TETRAC_DEMO:-$root/build/demo}
epochs=${TETRAC_DEMO_EPOCHS:-3}
mkdir -p "$out"
set -x
"$root/build/tetrac" new vit --image 28 --patch 4 --channels 1 --classes 10 --dim 96 --depth 4 --heads 4 -o "$out/vit.onnx"
"$root/build/tetrac" compile "$out/vit.onnx" --recipe tetrajet --batch 128 -o "$out/trainer"
"$out/trainer" train --data fashion-mnist --epochs "$epochs" --out "$out/run"
"$out/trainer" eval --data fashion-mnist --state "$out/run/state.safetensors"
