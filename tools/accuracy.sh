#!/bin/sh
# Accuracies of the README's small ViT on Fashion-MNIST, recipes x seeds; finished runs are kept. A short way to tools/study.sh.
#   sh tools/accuracy.sh [EPOCHS [SEEDS [RECIPES]]]      default: 5 "1 2 3" "fp32 tetrajet"
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
epochs=${1:-5}
exec sh "$root/tools/study.sh" long --epochs "$epochs" --seeds "${2:-1 2 3}" --recipes "${3:-fp32 tetrajet}" \
  --out "${TETRAC_BUILD:-$root/build}/accuracy/$epochs"
