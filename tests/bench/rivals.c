#include "tests/bench/rivals.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include "compiler/support/diag.h"

typedef void sgemm_fn(int order, int ta, int tb, int M, int N, int K, float alpha, const float *a, int lda, const float *b,
                      int ldb, float beta, float *c, int ldc);
typedef int dnnl_sgemm_fn(char ta, char tb, int64_t M, int64_t N, int64_t K, float alpha, const float *a, int64_t lda,
                          const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
typedef int dnnl_int8_fn(char ta, char tb, char offset_c, int64_t M, int64_t N, int64_t K, float alpha, const uint8_t *a,
                         int64_t lda, uint8_t offset_a, const int8_t *b, int64_t ldb, int8_t offset_b, float beta,
                         int32_t *c, int64_t ldc, const int32_t *offsets);
static sgemm_fn *sgemm;
static dnnl_sgemm_fn *dnnl_sgemm;
static dnnl_int8_fn *dnnl_int8;

static void load_openblas(int threads) {
  void *lib = dlopen("libopenblas.so.0", RTLD_NOW);
  if (!lib) return;
  *(void **)&sgemm = dlsym(lib, "cblas_sgemm");
  void (*set_threads)(int);
  *(void **)&set_threads = dlsym(lib, "openblas_set_num_threads");
  if (set_threads) set_threads(threads);
}

/* oneDNN takes its thread count from OpenMP; idle threads of its sleep, lest they take turns with others'. Its int8
 * products are held to AVX-512 VNNI (dnnl_cpu_isa_avx512_core_vnni), the instructions that ours use: in version 2.6 the
 * ones with AMX are slower. */
static void load_onednn(int threads) {
  enum { AVX512_CORE_VNNI = 0x67 };
  char count[16];
  snprintf(count, sizeof count, "%d", threads);
  setenv("OMP_NUM_THREADS", count, 1);
  setenv("OMP_WAIT_POLICY", "passive", 1);
  void *lib = dlopen("libdnnl.so.2", RTLD_NOW);
  if (!lib) return;
  int (*set_max_isa)(int);
  *(void **)&set_max_isa = dlsym(lib, "dnnl_set_max_cpu_isa");
  if (set_max_isa) set_max_isa(AVX512_CORE_VNNI);
  *(void **)&dnnl_sgemm = dlsym(lib, "dnnl_sgemm");
  *(void **)&dnnl_int8 = dlsym(lib, "dnnl_gemm_u8s8s32");
}

void bench_load_rivals(int threads, bool all) {
  load_openblas(threads);
  if (all) load_onednn(threads);
}

bool bench_has_rival(bench_library library) {
  return library == RIVAL_OPENBLAS ? sgemm != NULL : library == RIVAL_ONEDNN ? dnnl_sgemm != NULL : dnnl_int8 != NULL;
}

static void *memory(int64_t bytes) {
  void *p = malloc((size_t)bytes);
  TT_ASSERT(p != NULL);
  return p;
}

/* Written, because untouched pages are all the same page of zeros, which would never leave the cache. */
bench_rival bench_open_rival(int M, int N, int K, bool ta, bool tb) {
  int64_t na = (int64_t)M * K, nb = (int64_t)N * K, nc = (int64_t)M * N;
  bench_rival r = {.M = M, .N = N, .K = K, .ta = ta, .tb = tb};
  r.a = memory(4 * na), r.b = memory(4 * nb), r.a8 = memory(na), r.b8 = memory(nb), r.c = memory(4 * nc);
  for (int64_t i = 0; i < na; i++) r.a[i] = (float)(i % 251) / 251, r.a8[i] = (uint8_t)(i % 25);
  for (int64_t i = 0; i < nb; i++) r.b[i] = (float)(i % 251) / 251, r.b8[i] = (int8_t)(i % 25 - 12);
  for (int64_t i = 0; i < nc; i++) ((float *)r.c)[i] = 0;
  return r;
}

void bench_run_rival(bench_library library, const bench_rival *r) {
  static const int32_t no_offset = 0;
  int lda = r->ta ? r->M : r->K, ldb = r->tb ? r->K : r->N;
  char ta = r->ta ? 'T' : 'N', tb = r->tb ? 'T' : 'N';
  int fault = 0;
  if (library == RIVAL_OPENBLAS)
    sgemm(101, 111 + r->ta, 111 + r->tb, r->M, r->N, r->K, 1, r->a, lda, r->b, ldb, 0, r->c, r->N);
  else if (library == RIVAL_ONEDNN)
    fault = dnnl_sgemm(ta, tb, r->M, r->N, r->K, 1, r->a, lda, r->b, ldb, 0, r->c, r->N);
  else
    fault = dnnl_int8(ta, tb, 'F', r->M, r->N, r->K, 1, r->a8, lda, 0, r->b8, ldb, 0, 0, r->c, r->N, &no_offset);
  TT_ASSERT(fault == 0);
}

void bench_close_rival(bench_rival *r) { free(r->a), free(r->b), free(r->a8), free(r->b8), free(r->c); }
