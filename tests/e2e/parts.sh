#!/bin/sh
# A trainer is made of several objects, by as many processes as there are cores: its bytes are the same whenever it is compiled
# and with however many; what remains of a linker that fails is a message.
. "$(dirname "$0")/common.sh"
command -v taskset >/dev/null || { echo "SKIP: no taskset"; exit 77; }
cd "$work"
small_vit -o m.onnx
make() { "$@" "$tetrac" compile m.onnx --batch 4 --quiet -o t; }
make env
mv t all
cpu=$(taskset -cp $$ | sed 's/.*[ :]\([0-9]*\)[-,0-9]*$/\1/')
make taskset -c "$cpu"
cmp t all || { echo "FAIL: other bytes from one core"; exit 1; }
mkdir bad
printf '#!/bin/sh\necho "$@" >arguments\nexit 1\n' >cc
chmod +x cc
TETRAC_CC=$work/cc expect 1 "$tetrac" compile m.onnx --batch 4 --quiet -o bad/t
says "linking with"
[ "$(tr ' ' '\n' <arguments | grep -c '\.o$')" -gt 1 ] || { echo "FAIL: one object only: $(cat arguments)"; exit 1; }
[ -z "$(ls bad)" ] || { echo "FAIL: left behind: $(ls bad)"; exit 1; }
echo "PASS parts"
