#!/bin/sh
# Sets up, builds and runs all tests; ends with ctest's closing line. `sh tools/test.sh fast` leaves the trainings out.
# `sh tools/test.sh sanitize` runs the fast suite under AddressSanitizer and UndefinedBehaviorSanitizer.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
mode=${1:-all}
sh "$root/tools/setup.sh" --tests
if [ "$mode" = sanitize ]; then
  TETRAC_BUILD="$root/build/sanitize" sh "$root/tools/build.sh" -DTETRAC_SANITIZE=ON
  exec ctest --test-dir "$root/build/sanitize" --output-on-failure -j2 -LE slow
fi
sh "$root/tools/build.sh"
if [ "$mode" = fast ]; then
  exec ctest --test-dir "$root/build" --output-on-failure -j2 -LE slow
fi
TETRAC_BUILD="$root/build/sanitize" sh "$root/tools/build.sh" -DTETRAC_SANITIZE=ON
ctest --test-dir "$root/build/sanitize" --output-on-failure -j2 -LE slow
ctest --test-dir "$root/build" --output-on-failure -j2
