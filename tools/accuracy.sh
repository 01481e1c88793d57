#!/bin/sh
# The accuracy table of the README: a small ViT on Fashion-MNIST, recipes x seeds. Finished runs are kept and not repeated.
#   sh tools/accuracy.sh [EPOCHS [SEEDS [RECIPES]]]      default: 5 "1 2 3" "fp32 tetrajet"
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
epochs=${1:-5}
seeds=${2:-1 2 3}
recipes=${3:-fp32 tetrajet}
sh "$root/tools/build.sh" >&2
out=$root/build/accuracy
mkdir -p "$out"
printf '| recipe |'
for seed in $seeds; do printf ' seed %s |' "$seed"; done
printf ' mean |\n| --- |'
for seed in $seeds; do printf ' ---: |'; done
printf ' ---: |\n'
for recipe in $recipes; do
  for seed in $seeds; do
    run=$out/$recipe-$epochs-$seed
    if [ ! -e "$run.json" ]; then
      "$root/build/tetrac" new vit --image 28 --patch 4 --channels 1 --classes 10 --dim 96 --depth 4 --heads 4 --seed "$seed" -o "$run.onnx"
      "$root/build/tetrac" compile "$run.onnx" --recipe "$recipe" --batch 128 --quiet -o "$run.trainer"
      "$run.trainer" train --data fashion-mnist --epochs "$epochs" --seed "$seed" --no-eval --out "$run" >&2
      "$run.trainer" eval --data fashion-mnist --state "$run/state.safetensors" --json >"$run.json.tmp"
      mv "$run.json.tmp" "$run.json"
    fi
  done
  printf '| %s |' "$recipe"
  for seed in $seeds; do sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' "$out/$recipe-$epochs-$seed.json"; done |
    awk '{ printf " %.2f |", 100 * $1; s += 100 * $1; n++ } END { printf " %.2f |\n", s / n }'
done
