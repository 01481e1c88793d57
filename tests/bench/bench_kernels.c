/* Speed of generated matrix products and quantizers at the shapes of DeiT-Tiny and DeiT-Small linears, interleaved with
 * OpenBLAS's sgemm where the system has one (loaded at run time; it is no dependency).
 *
 *   bench_kernels [threads] [mx|f32|quant]        best of several runs; OpenBLAS gets the same number of threads */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "compiler/codegen/codegen.h"
#include "compiler/ir/mx.h"
#include "runtime/include/trt_runtime.h"

enum { TOKENS = 6272, REPEATS = 9 };
typedef void sgemm_fn(int order, int ta, int tb, int M, int N, int K, float alpha, const float *a, int lda, const float *b,
                      int ldb, float beta, float *c, int ldc);
static sgemm_fn *sgemm;
static int threads = 1;

/* On one thread processor time, which other processes do not disturb. */
static double now(void) {
  struct timespec t;
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void load_openblas(void) {
  void *lib = dlopen("libopenblas.so.0", RTLD_NOW);
  if (!lib) return;
  *(void **)&sgemm = dlsym(lib, "cblas_sgemm");
  void (*set_threads)(int);
  *(void **)&set_threads = dlsym(lib, "openblas_set_num_threads");
  if (set_threads) set_threads(threads);
}

/* One compiled op with its operands in place. */
typedef struct op_case {
  tt_module *module;
  tt_graph *g;
  cg_jit *jit;
  tt_arena *arena;
  trt_step step;
} op_case;

static tt_tensor random_operand(tt_arena *arena, tt_type type) {
  tt_tensor t = tt_tensor_new(arena, type);
  uint32_t r = 1;
  size_t n = type.dtype == TT_MX ? tt_mx_scale_offset(&type) : (size_t)tt_type_count(&type);
  for (size_t i = 0; i < n; i++) {
    r = r * 1664525u + 1013904223u;
    if (type.dtype == TT_MX)
      t.mx[i] = (uint8_t)(r >> 24);
    else
      t.d[i] = type.dtype == TT_F32 ? (double)(r >> 8) / (1 << 23) - 1 : 3;
  }
  for (size_t i = n; type.dtype == TT_MX && i < tt_type_bytes(&type); i++) t.mx[i] = (uint8_t)(120 + i % 5);
  return t;
}

static op_case open_case(tt_op op, int n_in, const tt_type *types, int n_attrs, const tt_attr *attrs) {
  static const char *const names[] = {"a", "b", "c"};
  op_case t = {.module = tt_module_create("bench"), .arena = tt_arena_create()};
  tt_diag diag;
  tt_value in[3];
  tt_tensor operands[3];
  tt_diag_init(&diag, stderr);
  t.g = tt_graph_create(t.module, "forward");
  for (int i = 0; i < n_in; i++) {
    in[i] = tt_graph_add_input(t.g, names[i], types[i]);
    operands[i] = random_operand(t.arena, types[i]);
  }
  tt_node n = tt_build(&(tt_builder){.g = t.g, .diag = &diag, .at = TT_NONE}, op, n_in, in, n_attrs, attrs);
  TT_ASSERT(n != TT_NONE);
  tt_graph_set_result(t.g, "out", tt_nod(t.g, n)->out[0]);
  for (size_t v = 0; v < t.g->values.count; v++) {
    t.g->values.data[v].space = TT_SPACE_ARENA;
    t.g->values.data[v].offset = t.g->arena_bytes;
    t.g->arena_bytes += (tt_type_bytes(&t.g->values.data[v].type) + 127) / 64 * 64;
  }
  t.jit = cg_jit_compile(t.g, cg_target_find("cpu", t.arena, &diag), &diag);
  TT_ASSERT(t.jit && trt_threads_init(threads, cg_jit_scratch_bytes(t.jit)));
  t.step = cg_jit_prepare(t.jit, operands, NULL, t.arena);
  return t;
}

static void close_case(op_case *t) {
  cg_jit_destroy(t->jit);
  tt_arena_destroy(t->arena);
  tt_module_destroy(t->module);
}

static double run_once(const op_case *t) {
  double start = now();
  cg_jit_enter(t->jit, &t->step);
  return now() - start;
}

/* Written, because untouched pages are all the same page of zeros, which would never leave the cache. */
static float *filled(size_t n) {
  float *x = malloc(n * sizeof *x);
  TT_ASSERT(x != NULL);
  for (size_t i = 0; i < n; i++) x[i] = (float)(i % 251) / 251;
  return x;
}

/* Generated op against sgemm on matrices of its own, alternately. Prints and returns the ratio (0 without OpenBLAS). */
static double compare(const char *name, op_case *t, int M, int N, int K, int ta, int tb) {
  double ours = 1e9, theirs = 1e9, flops = 2.0 * M * N * K;
  float *a = filled((size_t)M * (size_t)K), *b = filled((size_t)N * (size_t)K), *c = filled((size_t)M * (size_t)N);
  for (int i = 0; i < REPEATS; i++) {
    double s = run_once(t);
    if (s < ours) ours = s;
    if (!sgemm) continue;
    double start = now();
    sgemm(101, 111 + ta, 111 + tb, M, N, K, 1, a, ta ? M : K, b, tb ? K : N, 0, c, N);
    if (now() - start < theirs) theirs = now() - start;
  }
  printf("%-9s M %5d N %5d K %5d  %7.1f GFLOP/s", name, M, N, K, flops / ours * 1e-9);
  if (sgemm) printf("   OpenBLAS %7.1f   ratio %5.2f", flops / theirs * 1e-9, theirs / ours);
  putchar('\n');
  fflush(stdout);
  free(a), free(b), free(c);
  close_case(t);
  return sgemm ? theirs / ours : 0;
}

static double bench_mx(int M, int N, int K) {
  tt_type types[2] = {tt_type_mx(TT_E2M1, M, K), tt_type_mx(TT_E2M1, N, K)};
  op_case t = open_case(TT_OP_MX_GEMM, 2, types, 0, NULL);
  return compare("mx.gemm", &t, M, N, K, 0, 1);
}

static double bench_f32(int M, int N, int K, int ta, int tb) {
  tt_type types[2] = {tt_type_make(TT_F32, 2, ta ? (int64_t[]){K, M} : (int64_t[]){M, K}),
                      tt_type_make(TT_F32, 2, tb ? (int64_t[]){N, K} : (int64_t[]){K, N})};
  tt_attr attrs[2] = {tt_attr_int(TT_A_TRANS_A, ta), tt_attr_int(TT_A_TRANS_B, tb)};
  op_case t = open_case(TT_OP_MATMUL, 2, types, 2, attrs);
  return compare(ta ? "matmul TN" : tb ? "matmul NT" : "matmul NN", &t, M, N, K, ta, tb);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void median(double *ratio, int n) {
  qsort(ratio, (size_t)n, sizeof *ratio, by_value);
  if (sgemm) printf("median ratio %.2f\n", (ratio[n / 2] + ratio[(n - 1) / 2]) / 2);
}

/* The linears of a block of width D: Y, dX and dW of qkv, projection, fc1, fc2. */
static void bench_products(bool mx) {
  double ratio[64];
  int n = 0;
  for (int D = 192; D <= 384; D *= 2) {
    int layers[4][2] = {{D, 3 * D}, {D, D}, {D, 4 * D}, {4 * D, D}};
    for (int i = 0; i < 4; i++) {
      int in = layers[i][0], out = layers[i][1];
      ratio[n++] = mx ? bench_mx(TOKENS, out, in) : bench_f32(TOKENS, out, in, 0, 1);
      ratio[n++] = mx ? bench_mx(TOKENS, in, out) : bench_f32(TOKENS, in, out, 0, 0);
      ratio[n++] = mx ? bench_mx(out, in, TOKENS) : bench_f32(out, in, TOKENS, 1, 0);
    }
  }
  median(ratio, n);
}

static void bench_quantizer(const char *name, tt_op op, tt_rounding rounding, int across, int rows, int cols) {
  tt_qspec q = {.on = true, .rounding = (uint8_t)rounding};
  bool random = rounding == TT_STOCHASTIC;
  tt_type from =
      op == TT_OP_MX_QUANTIZE ? tt_type_make(TT_F32, 2, (int64_t[]){rows, cols}) : tt_type_mx(TT_E2M1, rows, cols);
  tt_type types[2] = {from, tt_type_make(TT_I64, 1, (int64_t[]){2})};
  tt_attr attrs[3] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TRANSPOSED, across), tt_attr_int(TT_A_TENSOR, 1)};
  if (op == TT_OP_MX_REQUANTIZE) attrs[1] = attrs[2];
  int n_attrs = op == TT_OP_MX_DEQUANTIZE || op == TT_OP_MX_COLSUM ? 0 : op == TT_OP_MX_REQUANTIZE ? 2 : 3;
  if (!random && n_attrs) n_attrs--;
  op_case t = open_case(op, 1 + random, types, n_attrs, attrs);
  double best = 1e9;
  for (int i = 0; i < REPEATS; i++) {
    double s = run_once(&t);
    if (s < best) best = s;
  }
  printf("%-28s [%d,%d]  %.3f ns an element\n", name, rows, cols, best * 1e9 / rows / cols);
  fflush(stdout);
  close_case(&t);
}

static void bench_quantizers(void) {
  int shapes[2][2] = {{TOKENS, 192}, {TOKENS, 768}};
  for (int i = 0; i < 2; i++) {
    int r = shapes[i][0], c = shapes[i][1];
    bench_quantizer("row nearest", TT_OP_MX_QUANTIZE, TT_NEAREST, 0, r, c);
    bench_quantizer("row stochastic", TT_OP_MX_QUANTIZE, TT_STOCHASTIC, 0, r, c);
    bench_quantizer("column nearest", TT_OP_MX_QUANTIZE, TT_NEAREST, 1, r, c);
    bench_quantizer("column stochastic", TT_OP_MX_QUANTIZE, TT_STOCHASTIC, 1, r, c);
    bench_quantizer("requantize stochastic", TT_OP_MX_REQUANTIZE, TT_STOCHASTIC, 1, r, c);
    bench_quantizer("dequantize", TT_OP_MX_DEQUANTIZE, TT_NEAREST, 0, r, c);
    bench_quantizer("column sums", TT_OP_MX_COLSUM, TT_NEAREST, 0, r, c);
  }
}

int main(int argc, char **argv) {
  const char *what = "all";
  for (int i = 1; i < argc; i++) {
    if (atoi(argv[i]) > 0)
      threads = atoi(argv[i]);
    else
      what = argv[i];
  }
  load_openblas();
  if (strcmp(what, "quant") == 0 || strcmp(what, "all") == 0) bench_quantizers();
  if (strcmp(what, "mx") == 0 || strcmp(what, "all") == 0) bench_products(true);
  if (strcmp(what, "f32") == 0 || strcmp(what, "all") == 0) bench_products(false);
  return 0;
}
