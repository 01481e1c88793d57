#!/bin/sh
# A step allocates nothing: a real trainer, its allocator counted, runs steps with batches from files and made ones, logs each,
# and asks for no memory between its second and its last step. A run that saves in between shows that the count is one.
. "$(dirname "$0")/common.sh"
cd "$work"
# A data set of 28x28 images in IDX files: 64 to train on, 8 to test on.
idx() { # FILE COUNT BYTES_EACH HEAD
  printf "$4" >"$1"
  head -c $(($2 * $3)) /dev/zero | tr '\0' '\1' >>"$1"
}
mkdir d
idx d/train-images-idx3-ubyte 64 784 '\000\000\010\003\000\000\000\100\000\000\000\034\000\000\000\034'
idx d/train-labels-idx1-ubyte 64 1 '\000\000\010\001\000\000\000\100'
idx d/t10k-images-idx3-ubyte 8 784 '\000\000\010\003\000\000\000\010\000\000\000\034\000\000\000\034'
idx d/t10k-labels-idx1-ubyte 8 1 '\000\000\010\001\000\000\000\010'
wrap=
for f in trt_model_run malloc calloc realloc aligned_alloc posix_memalign mmap brk sbrk; do wrap="$wrap -Wl,--wrap=$f"; done
"$tetrac" new vit --image 28 --patch 7 --channels 1 --classes 10 --dim 64 --depth 1 --heads 2 -o m.onnx
for recipe in tetrajet tetrajet-qramping; do
  "$tetrac" compile m.onnx --recipe $recipe --batch 8 --quiet --emit obj -o t.o
  gcc -std=c11 -D_DEFAULT_SOURCE -I"$root" $wrap -static -o t t.o "$root/tests/e2e/count_alloc.c" "$build/libtetrac_rt.a" -fopenmp -lz -lm 2>warnings ||
    { cat warnings; exit 1; }
  for data in idx:d synthetic:64; do
    expect 0 ./t train --data $data --max-steps 8 --augment crop --log-every 1 --no-eval --threads 3 --out o
    says 'steps 8, allocations 0'
  done
  expect 0 ./t train --data idx:d --max-steps 8 --save-every 3 --no-eval --threads 3 --out o
  grep -q 'steps 8, allocations [1-9]' out || { echo "FAIL: saving was not counted"; cat out; exit 1; }
done
echo "PASS allocations"
