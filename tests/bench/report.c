#include "tests/bench/report.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 512 };
static bench_row rows[ROWS_MAX];
static int n_rows;
static const char *const kinds[] = {"mx", "linear", "f32"};
static const char *const labels[RIVAL_COUNT] = {"times OpenBLAS", "oneDNN", "oneDNN int8"};

static double ratio_to(const bench_row *r, bench_library k) { return r->rival_ms[k] > 0 ? r->rival_ms[k] / r->ours_ms : 0; }

double bench_ratio(const bench_row *r) { return ratio_to(r, RIVAL_OPENBLAS); }

void bench_add(const bench_row *r) {
  printf("%-6s %-20s M %5d N %5d K %5d  %8.3f ms", r->kind, r->name, r->m, r->n, r->k, r->ours_ms);
  if (strcmp(r->kind, "quant") == 0)
    printf("  %.3f ns an element", r->ours_ms * 1e6 / r->m / r->n);
  else
    printf("  %7.1f GFLOP/s", 2e-6 * r->m * r->n * r->k * (strcmp(r->kind, "linear") == 0 ? 3 : 1) / r->ours_ms);
  printf("  %3.0f %% of peak", 100 * r->share);
  for (int k = 0; k < RIVAL_COUNT; k++)
    if (r->rival_ms[k] > 0) printf("  %s %5.2f", labels[k], ratio_to(r, (bench_library)k));
  putchar('\n');
  fflush(stdout);
  if (n_rows < ROWS_MAX) rows[n_rows++] = *r;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Of the ratios of a kind that count; 0 where there are none. */
static double median(const char *kind) {
  double ratio[ROWS_MAX];
  int n = 0;
  for (int i = 0; i < n_rows; i++)
    if (rows[i].counts && rows[i].rival_ms[RIVAL_OPENBLAS] > 0 && strcmp(rows[i].kind, kind) == 0)
      ratio[n++] = bench_ratio(&rows[i]);
  if (n == 0) return 0;
  qsort(ratio, (size_t)n, sizeof *ratio, by_value);
  return (ratio[n / 2] + ratio[(n - 1) / 2]) / 2;
}

void bench_print_medians(void) {
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (median(kinds[i]) > 0) printf("median ratio of %s: %.2f\n", kinds[i], median(kinds[i]));
}

bool bench_write_json(const char *path, int threads, const bench_peaks *p) {
  FILE *f = fopen(path, "w");
  if (!f) return false;
  fprintf(f,
          "{\"threads\":%d,\n\"peaks\":{\"fma_gflops\":%.1f,\"vnni_gops\":%.1f,\"read_gbs\":%.2f,\"tile_gops\":%.1f,"
          "\"f32_tile_gflops\":%.1f},"
          "\n\"rows\":[",
          threads, p->fma_gflops, p->vnni_gops, p->read_gbs, p->tile_gops, p->f32_tile_gflops);
  for (int i = 0; i < n_rows; i++) {
    const bench_row *r = &rows[i];
    fprintf(f,
            "%s\n{\"kind\":\"%s\",\"name\":\"%s\",\"m\":%d,\"n\":%d,\"k\":%d,\"ours_ms\":%.4f,\"openblas_ms\":%.4f,"
            "\"onednn_ms\":%.4f,\"onednn_int8_ms\":%.4f,\"ratio\":%.3f,\"peak_share\":%.3f}",
            i ? "," : "", r->kind, r->name, r->m, r->n, r->k, r->ours_ms, r->rival_ms[RIVAL_OPENBLAS],
            r->rival_ms[RIVAL_ONEDNN], r->rival_ms[RIVAL_ONEDNN_INT8], bench_ratio(r), r->share);
  }
  fprintf(f, "],\n\"median\":{");
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    fprintf(f, "%s\"%s\":%.3f", i ? "," : "", kinds[i], median(kinds[i]));
  fprintf(f, "}}\n");
  return fclose(f) == 0;
}
