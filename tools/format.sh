#!/bin/sh
# Lines of C that are longer than .clang-format's limit: lists them (exit code 1 where there are any), or lays them out anew.
#   sh tools/format.sh [--fix] [FILE...]      default: every .c and .h of the repository; --fix takes clang-format
# Only these lines, because the formatter cannot keep a table's columns or several designated initialisers a line, which the
# rest of the code is written in for its readers. Comments are left to who wrote them: a formula must not be filled.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
limit=$(sed -n 's/^ColumnLimit: *//p' "$root/.clang-format")
fix=
[ "${1:-}" = --fix ] && fix=yes && shift
if [ -n "$fix" ] && ! command -v clang-format >/dev/null; then
  echo "format.sh: --fix takes clang-format: apt-get install clang-format" >&2
  exit 1
fi
if [ $# -eq 0 ]; then
  cd "$root"
  # shellcheck disable=SC2046
  set -- $(git ls-files '*.c' '*.h')
fi

for file in "$@"; do
  [ -n "$fix" ] || continue
  lines=$(LC_ALL=C awk -v limit="$limit" 'length($0) > limit { printf " --lines=%d:%d", FNR, FNR }' "$file")
  # shellcheck disable=SC2086
  [ -z "$lines" ] || clang-format -i --style="file:$root/.clang-format" $lines "$file"
done
LC_ALL=C awk -v limit="$limit" '
  length($0) > limit { printf "%s:%d: %d columns\n", FILENAME, FNR, length($0); n++ }
  END { exit n > 0 }' "$@"
