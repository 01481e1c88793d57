/* The program that runs under the emulator: `foreign IN OUT THREADS`; see foreign_case.h. The entries are linked to it with a
 * table of them, which foreign.c writes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/include/trt_runtime.h"
#include "tests/ops/foreign_case.h"

extern const trt_entry_fn foreign_entries[];
extern const int foreign_count;

static uint8_t *take(uint64_t bytes) {
  uint8_t *p = aligned_alloc(TRT_ALIGN, (bytes / TRT_ALIGN + 2) * TRT_ALIGN);
  if (p) return p;
  fprintf(stderr, "foreign: out of memory\n");
  exit(1);
}

static int run_case(trt_entry_fn entry, FILE *in, FILE *out, int threads) {
  foreign_case sizes;
  if (fread(&sizes, sizeof sizes, 1, in) != 1) return 1;
  trt_step step = {take(0), take(sizes.arena)};
  if (fread(step.arena, 1, sizes.bytes, in) != sizes.bytes || !trt_threads_init(threads, sizes.scratch)) return 1;
  entry(&step);
  int failed = fwrite(step.arena, 1, sizes.bytes, out) != sizes.bytes;
  free(step.vars);
  free(step.arena);
  return failed;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
  if (!in || !out) return 2;
  for (int threads = 1; threads <= atoi(argv[3]); threads++) {
    rewind(in);
    for (int i = 0; i < foreign_count; i++)
      if (run_case(foreign_entries[i], in, out, threads)) {
        fprintf(stderr, "foreign: case %d failed\n", i);
        return 1;
      }
  }
  return fclose(out) != 0;
}
