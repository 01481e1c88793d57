/* Rows of a benchmark: printed as they come, written as JSON at the end. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H
#include <stdbool.h>
#include "tests/bench/rivals.h"

/* A measured time against the libraries' for the same product; times in ms, 0 where there is no such library or nothing to
 * compare. `share`: of the ceiling that `kind` is up against. */
typedef struct bench_row {
  const char *kind; /* mx, f32, linear, quant, attn */
  char name[48];
  int m, n, k;
  double ours_ms, rival_ms[RIVAL_COUNT], share;
  bool counts; /* among those the median is taken of */
} bench_row;

typedef struct bench_peaks {
  double fma_gflops, vnni_gops, read_gbs;
  double tile_gops, f32_tile_gflops; /* of a tile unit, 0 without one */
} bench_peaks;

double bench_ratio(const bench_row *r); /* to OpenBLAS */
void bench_add(const bench_row *r);     /* prints and keeps it */
void bench_print_medians(void);
/* False where `path` cannot be written. */
bool bench_write_json(const char *path, int threads, const bench_peaks *peaks);
#endif
