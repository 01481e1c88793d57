#!/bin/sh
# Recipes x seeds, tracked: its results as tables (results.md) and one page (report.html) in the study's folder, both brought up to
# date after every run. Interrupt it and start it again: finished runs are kept, a half run goes on where it was saved.
#   sh tools/study.sh [short|long] [--recipes "A B"] [--seeds "1 2"] [--epochs N] [--model "options of tetrac new vit"]
#                     [--batch N] [--data SPEC] [--set "key=value ..."] [--train "options of TRAINER train"] [--out DIR]
# short: for 2 cores and about an hour. long: the README's model, for a night. Each seed is of the initial weights, the order of
# images and the rounding, so recipes can be compared seed by seed.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
kind=short
case ${1:-} in short | long) kind=$1; shift ;; esac
recipes="fp32 microscaling tetrajet tetrajet-qema tetrajet-qramping"
seeds="1 2 3 4 5"
batch=128 data=fashion-mnist sets="" train=""
out=${TETRAC_BUILD:-$root/build}/study/$kind
if [ "$kind" = short ]; then
  epochs=12 model="--image 28 --patch 7 --channels 1 --classes 10 --dim 64 --depth 3 --heads 4"
else
  epochs=30 model="--image 28 --patch 4 --channels 1 --classes 10 --dim 96 --depth 4 --heads 4"
fi
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || { echo "study: $1 wants a value" >&2; exit 2; }
  case $1 in
  --recipes) recipes=$2 ;;
  --seeds) seeds=$2 ;;
  --epochs) epochs=$2 ;;
  --model) model=$2 ;;
  --batch) batch=$2 ;;
  --data) data=$2 ;;
  --set) sets=$2 ;;
  --train) train=$2 ;;
  --out) out=$2 ;;
  *) echo "study: unknown option $1 (see the head of tools/study.sh)" >&2; exit 2 ;;
  esac
  shift 2
done
[ -n "${TETRAC:-}" ] || sh "$root/tools/build.sh" >&2
tetrac=${TETRAC:-${TETRAC_BUILD:-$root/build}/tetrac}

# Runs of other settings in the same folder would be compared with these.
mkdir -p "$out"
settings="model $model; batch $batch; epochs $epochs; data $data; set $sets; train $train"
if [ -e "$out/settings" ] && [ "$(cat "$out/settings")" != "$settings" ]; then
  printf 'study: %s holds a study with other settings; choose another --out\n  there: %s\n  here:  %s\n' "$out" "$(cat "$out/settings")" "$settings" >&2
  exit 1
fi
printf '%s\n' "$settings" >"$out/settings"

# Results so far, over all runs of the folder that have finished.
summarise() {
  set --
  for finished in "$out"/*/finished; do
    [ -e "$finished" ] && set -- "$@" "${finished%/finished}"
  done
  [ $# -gt 0 ] || return 0
  "$tetrac" report "$@" -o "$out/report.html" --table --title "Study: $epochs epochs of $data" >"$out/results.tmp" 2>"$out/report.log" ||
    { cat "$out/report.log" >&2; return 1; }
  mv "$out/results.tmp" "$out/results.md"
}

failed=0
for seed in $seeds; do
  for recipe in $recipes; do
    run=$out/$recipe-$seed
    [ ! -e "$run/finished" ] || continue
    mkdir -p "$run"
    echo "study: $recipe, seed $seed" >&2
    # shellcheck disable=SC2086
    "$tetrac" new vit $model --seed "$seed" -o "$run/model.onnx"
    # shellcheck disable=SC2086
    "$tetrac" compile "$run/model.onnx" --recipe "$recipe" ${sets:+--set $sets} --batch "$batch" --quiet -o "$run/trainer"
    # shellcheck disable=SC2086
    if "$run/trainer" train --data "$data" --epochs "$epochs" --seed "$seed" --track --resume --out "$run" $train >"$run/result" 2>"$run/log"; then
      mv "$run/result" "$run/finished"
      cat "$run/finished" >&2
      rm -f "$run/trainer" "$run/model.onnx"
    else
      [ $? -lt 128 ] || exit 130
      tail -1 "$run/log" >&2
      failed=1
    fi
    summarise
  done
done
summarise
cat "$out/results.md"
echo "study: $out/report.html" >&2
exit $failed
