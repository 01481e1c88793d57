#!/bin/sh
# Installs what building tetrac needs, with --tests what testing it needs, with --bench what it is compared with (PyTorch,
# 5 GB). The one list of packages.
#   sh tools/setup.sh [--tests|--bench]
set -eu
build="gcc libc6-dev cmake ninja-build ccache pkg-config llvm-19-dev protobuf-c-compiler libprotobuf-c-dev
  libonnx-dev libcjson-dev libinih-dev libcmocka-dev zlib1g-dev graphviz
  dataset-fashion-mnist"
tests="python3 python3-venv python3-torch libopenblas0-pthread"
# Trainers for AArch64 are linked and run under emulation in the tests; their zlib comes from the foreign architecture. Where
# that cannot be had, their tests are skipped.
cross="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user zlib1g-dev:arm64"
# torch.compile needs a C++ compiler and Python's headers.
bench="python3 python3-venv python3-dev g++ libopenblas0-pthread libdnnl2"
root=$(cd "$(dirname "$0")/.." && pwd)
want=$build
[ "${1:-}" = --tests ] && want="$build $tests"
[ "${1:-}" = --bench ] && want="$build $bench"

sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo

# Of the packages given, those that are not installed.
missing_of() {
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || printf ' %s' "$package"
  done
}

get() { # PACKAGES
  echo "setup: installing $*" >&2
  $sudo apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends "$@" >&2
}

# shellcheck disable=SC2086
{
  missing=$(missing_of $want)
  [ -z "$missing" ] || get $missing
}

if [ "${1:-}" = --tests ] && [ "$(dpkg --print-architecture)" != arm64 ]; then
  # shellcheck disable=SC2086
  missing=$(missing_of $cross)
  # shellcheck disable=SC2086
  if [ -n "$missing" ] && ! { $sudo dpkg --add-architecture arm64 && get $missing; }; then
    echo "setup: no cross compiler and libraries for AArch64; its tests will be skipped" >&2
  fi
fi

# Python serves only as an independent reference; the distribution's torch is seen through --system-site-packages.
if [ "${1:-}" = --tests ] && [ ! -e "$root/build/venv/.ready" ]; then
  mkdir -p "$root/build"
  /usr/bin/python3 -m venv --system-site-packages "$root/build/venv"
  "$root/build/venv/bin/pip" install -q --disable-pip-version-check 'numpy<2' 'onnx==1.16.2' 'onnxruntime==1.19.2' >&2
  touch "$root/build/venv/.ready"
fi

# The contenders live apart from the tests' reference: the newest PyTorch, pinned. A package index that has only older ones
# gives its newest, one that has none leaves the distribution's; the benchmark's report says which it was.
if [ "${1:-}" = --bench ] && [ ! -e "$root/build/bench-venv/.ready" ]; then
  mkdir -p "$root/build"
  echo "setup: installing PyTorch into build/bench-venv" >&2
  /usr/bin/python3 -m venv --clear "$root/build/bench-venv"
  pip="$root/build/bench-venv/bin/pip install -q --disable-pip-version-check --no-cache-dir"
  if ! $pip -r "$root/tests/bench/requirements.txt" >&2 && ! $pip torch numpy >&2; then
    echo "setup: no PyTorch from the package index; taking the distribution's" >&2
    sh "$root/tools/setup.sh" --tests
    /usr/bin/python3 -m venv --clear --system-site-packages "$root/build/bench-venv"
  fi
  touch "$root/build/bench-venv/.ready"
fi
