/* Matrix products of the libraries one would otherwise use, on matrices of their own. Loaded at run time where the system
 * has them; they are no dependency. */
#ifndef BENCH_RIVALS_H
#define BENCH_RIVALS_H
#include <stdbool.h>
#include <stdint.h>

typedef enum bench_library { RIVAL_OPENBLAS, RIVAL_ONEDNN, RIVAL_ONEDNN_INT8, RIVAL_COUNT } bench_library;

/* op(a) op(b) of shapes [M,K] and [K,N] as stored by rows, in float32 or (a8 unsigned) in int8 with int32 sums in c. */
typedef struct bench_rival {
  int M, N, K;
  bool ta, tb;
  float *a, *b;
  uint8_t *a8;
  int8_t *b8;
  void *c;
} bench_rival;

/* Before anything else starts threads. */
void bench_load_rivals(int threads, bool all);
bool bench_has_rival(bench_library library);
bench_rival bench_open_rival(int M, int N, int K, bool ta, bool tb);
void bench_run_rival(bench_library library, const bench_rival *r);
void bench_close_rival(bench_rival *r);
#endif
