#!/bin/sh
# Which room may include what (compiler/README.md). Prints each offending line; fails if there is one.
set -u
cd "$(dirname "$0")/.." || exit 2
bad=0
# deny FOLDER PATTERN WHY: no file below FOLDER may have an include line that matches.
deny() {
  hits=$(grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($2)" "$1" --include='*.c' --include='*.h' || true)
  [ -z "$hits" ] && return
  printf '%s\n  -> %s\n' "$hits" "$3"
  bad=1
}
deny compiler/support 'compiler/(ir|onnx|codegen|driver)|passes/|runtime/|models/' 'support depends on nothing'
deny compiler/ir 'compiler/(onnx|codegen|driver)|passes/|runtime/|models/' 'ir depends on support alone'
deny compiler/onnx 'compiler/(codegen|driver)|passes/|runtime/|models/' 'onnx depends on ir and support'
deny passes 'compiler/(onnx|codegen|driver)|runtime/|models/' 'passes depend on ir and support'
deny compiler/codegen 'compiler/(onnx|driver)|passes/|models/' 'codegen depends on ir and support'
deny compiler/codegen 'runtime/src' 'the compiler sees runtime/include only'
deny compiler/driver 'runtime/src' 'the compiler sees runtime/include only'
deny runtime 'compiler/|passes/|models/' 'the runtime sees nothing of the compiler'
deny models 'compiler/(codegen|driver)|passes/|runtime/' 'models are built with onnx alone'
for folder in compiler/support compiler/ir compiler/onnx compiler/driver passes runtime models tools; do
  deny $folder 'llvm' 'LLVM headers belong to codegen'
done
for folder in compiler/support compiler/ir compiler/codegen compiler/driver passes runtime tools; do
  deny $folder 'protobuf-c|onnx/onnx.pb-c|onnx.pb-c' 'protobuf-c belongs to onnx (and models)'
done
for folder in compiler passes models tools; do
  deny $folder 'pthread\.h|omp\.h' 'threads belong to the runtime'
done
[ $bad = 0 ] && echo "layers: every include stays in its room"
exit $bad
