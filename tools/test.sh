#!/bin/sh
# Sets up, builds and runs all tests; ends with ctest's closing line.
#   sh tools/test.sh             everything: the fast suite under sanitizers, then every test
#   sh tools/test.sh fast        what takes a few seconds each
#   sh tools/test.sh sanitize    the fast suite under AddressSanitizer and UndefinedBehaviorSanitizer
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
mode=${1:-all}

sanitized() {
  TETRAC_BUILD="$root/build/sanitize" sh "$root/tools/build.sh" -DTETRAC_SANITIZE=ON
  # Trainers are linked statically, which sanitizers cannot be: they get the plain runtime.
  TETRAC_RUNTIME="$root/build/libtetrac_rt.a" ctest --test-dir "$root/build/sanitize" --output-on-failure -j2 -LE 'slow|long'
}

export TETRAC_TARGETS=all
sh "$root/tools/setup.sh" --tests
sh "$root/tools/build.sh"
case $mode in
  all) sanitized && ctest --test-dir "$root/build" --output-on-failure -j2 ;;
  fast) ctest --test-dir "$root/build" --output-on-failure -j2 -LE 'slow|long' ;;
  sanitize) sanitized ;;
  *) echo "usage: sh tools/test.sh [fast|sanitize]" >&2; exit 2 ;;
esac
