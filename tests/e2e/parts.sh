#!/bin/sh
# A trainer is made of several objects, by as many processes as there are cores or --jobs says: its bytes are the same whenever
# it is compiled and with however many; what remains of a linker that fails, or a disk that fills, is a message.
. "$(dirname "$0")/common.sh"
cd "$work"
small_vit -o m.onnx
make() { expect 0 "$tetrac" compile m.onnx --recipe fp32 --batch 4 --quiet -o t "$@"; }
make --jobs 1
mv t one
make --jobs 3
cmp t one || { echo "FAIL: other bytes from three processes"; exit 1; }
expect 2 "$tetrac" compile m.onnx --jobs 0 -o t
mkdir bad
printf '#!/bin/sh\necho "$@" >arguments\nexit 1\n' >cc
chmod +x cc
TETRAC_CC=$work/cc expect 1 "$tetrac" compile m.onnx --recipe fp32 --batch 4 --quiet -o bad/t
says "linking with"
[ "$(tr ' ' '\n' <arguments | grep -c '\.o$')" -gt 1 ] || { echo "FAIL: one object only: $(cat arguments)"; exit 1; }
[ -z "$(ls bad)" ] || { echo "FAIL: left behind: $(ls bad)"; exit 1; }
rm -r bad
mkdir bad
expect 1 sh -c "ulimit -f 400; exec '$tetrac' compile m.onnx --recipe fp32 --batch 4 --quiet -o bad/t"
says "bad/t: error: cannot write beside it: File too large"
[ -z "$(ls bad)" ] || { echo "FAIL: a full disk left behind: $(ls bad)"; exit 1; }
echo "PASS parts"
