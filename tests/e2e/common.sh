# Sourced by the end-to-end scripts: sets build, root, tetrac, python and a work folder that is removed at the end.
set -eu
build=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
tetrac=$build/tetrac
python=$root/build/venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# needs_python, needs_models: skip (exit 77) where the references are not there.
needs_python() {
  [ -x "$python" ] || { echo "SKIP: no build/venv (sh tools/setup.sh --tests makes it)"; exit 77; }
}
models=$root/../shared/models
needs_models() {
  [ -d "$models" ] || { echo "SKIP: the real exporters' models are not beside this checkout"; exit 77; }
}
# expect CODE COMMAND...: runs it, stderr to $work/err, and fails unless it exits with CODE.
expect() {
  want=$1
  shift
  code=0
  "$@" >"$work/out" 2>"$work/err" || code=$?
  [ "$code" = "$want" ] || { echo "FAIL: exit code $code instead of $want: $*"; cat "$work/out" "$work/err"; exit 1; }
}
# says TEXT: the last expected command's stderr or stdout has TEXT.
says() {
  grep -qF -- "$1" "$work/err" "$work/out" || { echo "FAIL: '$1' was not said, but:"; cat "$work/out" "$work/err"; exit 1; }
}
small_vit() { "$tetrac" new vit --image 28 --patch 4 --channels 1 --classes 10 --dim 64 --depth 2 --heads 2 "$@"; }
