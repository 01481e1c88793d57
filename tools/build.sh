#!/bin/sh
# Builds tetrac and tetrac-opt into build/ (TETRAC_TARGETS=all: the tests as well). Extra arguments go to CMake, e.g.
# -DTETRAC_SANITIZE=ON.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
launcher=""
command -v ccache >/dev/null && launcher=-DCMAKE_C_COMPILER_LAUNCHER=ccache
# shellcheck disable=SC2086
cmake -G Ninja -S "$root" -B "${TETRAC_BUILD:-$root/build}" $launcher "$@" >/dev/null
# shellcheck disable=SC2086
ninja -C "${TETRAC_BUILD:-$root/build}" ${TETRAC_TARGETS:-tetrac tetrac-opt}
