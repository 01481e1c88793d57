#!/bin/sh
# Installs what building (and, with --tests, testing and comparing) tetrac needs. The one list of packages.
#   sh tools/setup.sh [--tests]
set -eu
build="gcc libc6-dev cmake ninja-build ccache pkg-config llvm-19-dev protobuf-c-compiler libprotobuf-c-dev
  libonnx-dev libcjson-dev libinih-dev libcmocka-dev zlib1g-dev graphviz
  dataset-fashion-mnist"
tests="python3 python3-venv python3-torch libopenblas0-pthread"
root=$(cd "$(dirname "$0")/.." && pwd)
want=$build
[ "${1:-}" = --tests ] && want="$build $tests"

missing=""
for package in $want; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  echo "setup: installing$missing" >&2
  $sudo apt-get update -q >&2
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -q --no-install-recommends $missing >&2
fi

# Python serves only as an independent reference; the distribution's torch is seen through --system-site-packages.
if [ "${1:-}" = --tests ] && [ ! -e "$root/build/venv/.ready" ]; then
  mkdir -p "$root/build"
  /usr/bin/python3 -m venv --system-site-packages "$root/build/venv"
  "$root/build/venv/bin/pip" install -q --disable-pip-version-check 'numpy<2' 'onnx==1.16.2' 'onnxruntime==1.19.2' >&2
  touch "$root/build/venv/.ready"
fi
