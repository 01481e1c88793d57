/* Speed of generated matrix products, quantizers and whole linear layers at the shapes of DeiT-Tiny, -Small and -Base,
 * interleaved with OpenBLAS's and oneDNN's products where the system has them, and as shares of what the machine's
 * instructions reach in a loop of nothing else.
 *
 *   bench_kernels [threads] [mx|f32|linear|quant|attention|peaks]... [--quick] [--only TEXT] [--target TARGET]
 *                 [--json FILE]
 *
 * Best of several runs; the libraries get the same number of threads. Medians are over the products of DeiT-T and DeiT-S at
 * 6272 tokens (32 images); --quick leaves out everything else, --only all layers whose name (deit_s.fc1) has not
 * TEXT in it. --target generates for less than this machine has, e.g. cpu:v3; OPENBLAS_CORETYPE=Haswell holds OpenBLAS to
 * the same, and ONEDNN_MAX_CPU_ISA=AVX2 oneDNN. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "compiler/codegen/codegen.h"
#include "compiler/ir/mx.h"
#include "runtime/include/trt_calls.h"
#include "runtime/include/trt_runtime.h"
#include "tests/bench/report.h"
#include "tests/bench/rivals.h"

enum { TOKENS = 6272, FEW_TOKENS = 196, TOKENS_IMAGE = 196, REPEATS = 9, SLOW_REPEATS = 5, SLOWEST_REPEATS = 3 };
static int threads = 1;
static bool quick, all_rivals = true;
static const char *only = "", *target = "cpu";
static bench_peaks peaks;

/* On one thread processor time, which other processes do not disturb. */
static double now(void) {
  struct timespec t;
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A graph being built, then compiled with its operands in place. */
typedef struct op_case {
  tt_module *module;
  tt_graph *g;
  tt_builder b;
  tt_diag diag;
  cg_jit *jit;
  tt_arena *arena;
  tt_tensor operands[4];
  int n_operands;
  trt_step step;
} op_case;

/* Normal numbers whose magnitudes differ by a power of two that is itself normal: channels of a network are as uneven. */
static float sample(uint32_t *state) {
  double u[3];
  for (int i = 0; i < 3; i++) {
    *state = *state * 1664525u + 1013904223u;
    u[i] = ((double)(*state >> 8) + 0.5) / (1 << 24);
  }
  double r = sqrt(-2 * log(u[0]));
  return (float)(r * cos(6.283185307179586 * u[1]) * exp2(r * sin(6.283185307179586 * u[1]) + u[2] - 0.5));
}

enum { PATTERN = 1 << 16 };
static const float *pattern(void) {
  static float x[PATTERN];
  uint32_t r = 1;
  for (int i = 0; x[PATTERN - 1] == 0 && i < PATTERN; i++) x[i] = sample(&r);
  return x;
}

/* Repetitions of a quantized pattern, in blocks. */
static void fill_mx(tt_tensor *t) {
  enum { BLOCKS = PATTERN / TT_MX_BLOCK };
  static uint8_t mx[BLOCKS * 17];
  tt_mx_quantize((tt_qspec){.on = true}, BLOCKS, TT_MX_BLOCK, pattern(), TT_MX_BLOCK, 1, NULL, 0, mx);
  size_t n = tt_mx_scale_offset(&t->type) / 16, scales = tt_type_bytes(&t->type) - 16 * n;
  for (size_t i = 0; i < n; i++) memcpy(t->mx + 16 * i, mx + i % BLOCKS * 16, 16);
  for (size_t i = 0; i < scales; i++) t->mx[16 * n + i] = mx[16 * BLOCKS + i % BLOCKS];
}

/* A gradient's operand along tokens, of which in a vision transformer one in TOKENS_IMAGE is the class token: where the loss
 * reads that alone, its gradients are 2^7 to 2^12 times those of the others, so that a third of all pairs of blocks have
 * scales far apart. */
static void raise_class_tokens(tt_tensor *t) {
  enum { RAISED = 8 };
  int64_t nb = tt_mx_blocks(t->type.dim[1]);
  for (int64_t row = 0; row < t->type.dim[0]; row++)
    for (int64_t token = 0; token < t->type.dim[1]; token += TOKENS_IMAGE)
      t->mx[tt_mx_scale_offset(&t->type) + (size_t)(row * nb + token / TT_MX_BLOCK)] += RAISED;
}

static op_case open_case(void) {
  op_case t = {.module = tt_module_create("bench"), .arena = tt_arena_create()};
  tt_diag_init(&t.diag, stderr);
  t.g = tt_graph_create(t.module, "forward");
  return t;
}

static tt_value input(op_case *t, tt_type type) {
  static const char *const names[] = {"a", "b", "c", "d"};
  tt_tensor x = tt_tensor_new(t->arena, type);
  int64_t n = type.dtype == TT_MX ? 0 : tt_type_count(&type);
  if (type.dtype == TT_MX) fill_mx(&x);
  for (int64_t i = 0; i < n; i++) x.d[i] = type.dtype == TT_F32 ? (double)pattern()[i % PATTERN] : 3;
  t->operands[t->n_operands] = x;
  return tt_graph_add_input(t->g, names[t->n_operands++], type);
}

static const tt_value *add_all(op_case *t, tt_op op, int n_in, const tt_value *in, int n_attrs, const tt_attr *attrs) {
  t->b = (tt_builder){.g = t->g, .diag = &t->diag, .at = TT_NONE};
  tt_node n = tt_build(&t->b, op, n_in, in, n_attrs, attrs);
  TT_ASSERT(n != TT_NONE);
  return tt_nod(t->g, n)->out;
}

static tt_value add(op_case *t, tt_op op, int n_in, const tt_value *in, int n_attrs, const tt_attr *attrs) {
  return add_all(t, op, n_in, in, n_attrs, attrs)[0];
}

static void compile(op_case *t, tt_value result) {
  tt_graph_set_result(t->g, "out", result);
  for (size_t v = 0; v < t->g->values.count; v++) {
    t->g->values.data[v].space = TT_SPACE_ARENA;
    t->g->values.data[v].offset = t->g->arena_bytes;
    t->g->arena_bytes += (tt_type_bytes(&t->g->values.data[v].type) + 127) / 64 * 64;
  }
  t->jit = cg_jit_compile(t->g, cg_target_find(target, t->arena, &t->diag), &t->diag);
  TT_ASSERT(t->jit && trt_threads_init(threads, cg_jit_scratch_bytes(t->jit)));
  t->step = cg_jit_prepare(t->jit, t->operands, NULL, t->arena);
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

static double run_rivals(bench_library library, const bench_rival *r, int n) {
  double start = now();
  for (; n > 0; n--, r++) bench_run_rival(library, r);
  return now() - start;
}

/* The case against n rivals' products (int8 ones where the case is not float32), alternately; fills the row's times,
 * reports it and closes everything. `work`: operations (or bytes) of the case, for its share of `peak` (1e9 a second). */
static void compare(bench_row row, op_case *t, bench_rival *rivals, int n, double work, double peak) {
  double ours = 1e9, theirs[RIVAL_COUNT];
  int repeats = work > 2e10 ? SLOWEST_REPEATS : work > 4e9 ? SLOW_REPEATS : REPEATS;
  bool against[RIVAL_COUNT];
  for (int k = 0; k < RIVAL_COUNT; k++) {
    theirs[k] = 1e9;
    against[k] = n > 0 && bench_has_rival((bench_library)k) && (k != RIVAL_ONEDNN_INT8 || strcmp(row.kind, "f32") != 0);
  }
  for (int i = 0; i < repeats; i++) {
    ours = fmin(ours, run_once(t));
    for (int k = 0; k < RIVAL_COUNT; k++)
      if (against[k]) theirs[k] = fmin(theirs[k], run_rivals((bench_library)k, rivals, n));
  }
  row.ours_ms = 1e3 * ours;
  for (int k = 0; k < RIVAL_COUNT; k++)
    if (against[k]) row.rival_ms[k] = 1e3 * theirs[k];
  if (peak > 0) row.share = work / ours * 1e-9 / peak;
  bench_add(&row);
  for (int i = 0; i < n; i++) bench_close_rival(&rivals[i]);
  close_case(t);
}

/* Of the fastest unit for a product. */
static double int8_peak(void) { return fmax(peaks.vnni_gops, peaks.tile_gops); }
static double f32_peak(void) { return fmax(peaks.fma_gflops, peaks.f32_tile_gflops); }

/* Which linears a row is of: those of a model's blocks, at a number of tokens. */
typedef struct place {
  const char *model, *layer;
  int in, out, tokens;
} place;

static bench_row row_of(const char *kind, const place *p, const char *product, int M, int N, int K) {
  bench_row r = {.kind = kind, .m = M, .n = N, .k = K, .counts = p->tokens == TOKENS && strcmp(p->model, "deit_b") != 0};
  int n = snprintf(r.name, sizeof r.name, "%s.%s%s%s", p->model, p->layer, product[0] ? "." : "", product);
  if (p->tokens != TOKENS) snprintf(r.name + n, sizeof r.name - (size_t)n, "@%d", p->tokens);
  return r;
}

static void bench_mx(const place *p, const char *product, int M, int N, int K) {
  op_case t = open_case();
  tt_value in[2] = {input(&t, tt_type_mx(TT_E2M1, M, K)), input(&t, tt_type_mx(TT_E2M1, N, K))};
  if (strcmp(product, "dW") == 0) raise_class_tokens(&t.operands[0]);
  compile(&t, add(&t, TT_OP_MX_GEMM, 2, in, 0, NULL));
  bench_rival r = bench_open_rival(M, N, K, 0, 1);
  compare(row_of("mx", p, product, M, N, K), &t, &r, 1, 2.0 * M * N * K, int8_peak());
}

static void bench_f32(const place *p, const char *product, int M, int N, int K, int ta, int tb) {
  op_case t = open_case();
  tt_type a = tt_type_make(TT_F32, 2, ta ? (int64_t[]){K, M} : (int64_t[]){M, K});
  tt_type b = tt_type_make(TT_F32, 2, tb ? (int64_t[]){N, K} : (int64_t[]){K, N});
  tt_attr attrs[2] = {tt_attr_int(TT_A_TRANS_A, ta), tt_attr_int(TT_A_TRANS_B, tb)};
  tt_value in[2] = {input(&t, a), input(&t, b)};
  compile(&t, add(&t, TT_OP_MATMUL, 2, in, 2, attrs));
  bench_rival r = bench_open_rival(M, N, K, ta, tb);
  compare(row_of("f32", p, product, M, N, K), &t, &r, 1, 2.0 * M * N * K, f32_peak());
}

static void products_mx(const place *p) {
  bench_mx(p, "Y", p->tokens, p->out, p->in);
  bench_mx(p, "dX", p->tokens, p->in, p->out);
  bench_mx(p, "dW", p->out, p->in, p->tokens);
}

static void products_f32(const place *p) {
  bench_f32(p, "Y", p->tokens, p->out, p->in, 0, 1);
  bench_f32(p, "dX", p->tokens, p->in, p->out, 0, 0);
  bench_f32(p, "dW", p->out, p->in, p->tokens, 1, 0);
}

static tt_value quantize(op_case *t, tt_value x, tt_value rng, int transposed) {
  tt_qspec q = {.on = true, .rounding = rng != TT_NONE ? TT_STOCHASTIC : TT_NEAREST};
  bool packed = tt_typ(t->g, x)->dtype == TT_MX;
  tt_attr attrs[3] = {tt_attr_qspec(TT_A_Q, q)};
  int n = 1;
  if (!packed) attrs[n++] = tt_attr_int(TT_A_TRANSPOSED, transposed);
  if (rng != TT_NONE) attrs[n++] = tt_attr_int(TT_A_TENSOR, 1);
  return add(t, packed ? TT_OP_MX_REQUANTIZE : TT_OP_MX_QUANTIZE, 1 + (rng != TT_NONE), (tt_value[]){x, rng}, n, attrs);
}

/* Along rows, along columns, and the column sums of the former, in the one launch (and its sum) that fuse_quantize makes of
 * them in a compiled step. */
static const tt_value *quantize_gradient(op_case *t, tt_value dy, tt_value rng) {
  tt_qspec q = {.on = true, .rounding = TT_STOCHASTIC};
  tt_attr attrs[5] = {tt_attr_qspec(TT_A_Q, q), tt_attr_qspec(TT_A_QT, q), tt_attr_int(TT_A_COLSUM, 1),
                      tt_attr_int(TT_A_TENSOR, 1), tt_attr_int(TT_A_TENSOR_T, 2)};
  return add_all(t, TT_OP_MX_FUSED, 2, (tt_value[]){dy, rng}, 5, attrs);
}

/* Forward and backward of one linear as NUMERICS 4 has it, in the kernels that a step launches for it where nothing comes before
 * x and dy that their quantizers could be fused with, against the three products alone in float32. */
static void bench_linear(const place *p) {
  int N = p->tokens, D = p->in, C = p->out;
  op_case t = open_case();
  tt_value x = input(&t, tt_type_make(TT_F32, 2, (int64_t[]){N, D})),
           w = input(&t, tt_type_make(TT_F32, 2, (int64_t[]){C, D}));
  tt_value dy = input(&t, tt_type_make(TT_F32, 2, (int64_t[]){N, C})),
           rng = input(&t, tt_type_make(TT_I64, 1, (int64_t[]){2}));
  tt_value q1 = quantize(&t, x, TT_NONE, 0), q2 = quantize(&t, w, TT_NONE, 0);
  add(&t, TT_OP_MX_GEMM, 2, (tt_value[]){q1, q2}, 0, NULL);
  const tt_value *made = quantize_gradient(&t, dy, rng);
  tt_value q3 = made[0], q5 = made[1];
  tt_value q4 = quantize(&t, q2, rng, 1);
  add(&t, TT_OP_MX_GEMM, 2, (tt_value[]){q3, q4}, 0, NULL);
  tt_value q6 = quantize(&t, q1, rng, 1), dw = add(&t, TT_OP_MX_GEMM, 2, (tt_value[]){q5, q6}, 0, NULL);
  compile(&t, dw);
  bench_rival r[3] = {bench_open_rival(N, C, D, 0, 1), bench_open_rival(N, D, C, 0, 0), bench_open_rival(C, D, N, 1, 0)};
  compare(row_of("linear", p, "", N, C, D), &t, r, 3, 6.0 * N * C * D, int8_peak());
}

/* The four linears of a block of width D. */
static void each_layer(const char *model, int D, int tokens, void bench(const place *)) {
  const place p[4] = {{model, "qkv", D, 3 * D, tokens},
                      {model, "proj", D, D, tokens},
                      {model, "fc1", D, 4 * D, tokens},
                      {model, "fc2", 4 * D, D, tokens}};
  for (int i = 0; i < 4; i++) {
    char name[48];
    snprintf(name, sizeof name, "%s.%s", model, p[i].layer);
    if (strstr(name, only)) bench(&p[i]);
  }
}

static void each_model(void bench(const place *)) {
  each_layer("deit_t", 192, TOKENS, bench);
  each_layer("deit_s", 384, TOKENS, bench);
  if (quick) return;
  each_layer("deit_b", 768, TOKENS, bench);
  each_layer("deit_t", 192, FEW_TOKENS, bench);
  each_layer("deit_s", 384, FEW_TOKENS, bench);
  each_layer("deit_b", 768, FEW_TOKENS, bench);
}

/* Share of the reading speed, counting what is read and written. */
static void bench_quantizer(const char *name, tt_op op, tt_rounding rounding, int across, int rows, int cols) {
  op_case t = open_case();
  bool packed = op != TT_OP_MX_QUANTIZE;
  tt_value x = input(&t, packed ? tt_type_mx(TT_E2M1, rows, cols) : tt_type_make(TT_F32, 2, (int64_t[]){rows, cols})), y;
  tt_value rng = rounding == TT_STOCHASTIC ? input(&t, tt_type_make(TT_I64, 1, (int64_t[]){2})) : TT_NONE;
  if (op == TT_OP_MX_DEQUANTIZE || op == TT_OP_MX_COLSUM)
    y = add(&t, op, 1, &x, 0, NULL);
  else
    y = quantize(&t, x, rng, across);
  double bytes = (double)tt_type_bytes(tt_typ(t.g, x)) + (double)tt_type_bytes(tt_typ(t.g, y));
  compile(&t, y);
  bench_row row = {.kind = "quant", .m = rows, .n = cols};
  snprintf(row.name, sizeof row.name, "%s", name);
  compare(row, &t, NULL, 0, bytes, peaks.read_gbs);
}

static void bench_quantizers(void) {
  int shapes[2][2] = {{TOKENS, 192}, {TOKENS, 768}};
  for (int i = 0; i < 2; i++) {
    int r = shapes[i][0], c = shapes[i][1];
    bench_quantizer("row nearest", TT_OP_MX_QUANTIZE, TT_NEAREST, 0, r, c);
    bench_quantizer("row stochastic", TT_OP_MX_QUANTIZE, TT_STOCHASTIC, 0, r, c);
    bench_quantizer("column nearest", TT_OP_MX_QUANTIZE, TT_NEAREST, 1, r, c);
    bench_quantizer("column stochastic", TT_OP_MX_QUANTIZE, TT_STOCHASTIC, 1, r, c);
    bench_quantizer("requantize", TT_OP_MX_REQUANTIZE, TT_STOCHASTIC, 1, r, c);
    bench_quantizer("dequantize", TT_OP_MX_DEQUANTIZE, TT_NEAREST, 0, r, c);
    bench_quantizer("column sums", TT_OP_MX_COLSUM, TT_NEAREST, 0, r, c);
  }
}

/* All heads of a model's layer, of which rows M are those of all its products one below the other; share of multiply-adds. */
static void bench_attention(const char *name, int batch, int tokens, int heads, bool backward) {
  enum { HEAD = 64 };
  op_case t = open_case();
  tt_attr attrs[2] = {tt_attr_int(TT_A_HEADS, heads), tt_attr_float(TT_A_SCALE, 0.125)};
  int products = backward ? 5 : 2, n = 0;
  tt_value in[3];
  if (backward) {
    in[n++] = input(&t, tt_type_make(TT_F32, 3, (int64_t[]){batch, tokens, heads * HEAD}));
    in[n++] = input(&t, tt_type_make(TT_F32, 3, (int64_t[]){batch, heads, tokens}));
  }
  in[n++] = input(&t, tt_type_make(TT_F32, 3, (int64_t[]){batch, tokens, 3 * heads * HEAD}));
  compile(&t, add(&t, backward ? TT_OP_ATTENTION_GRAD : TT_OP_ATTENTION, n, in, 2, attrs));
  bench_row row = {.kind = "attn", .m = products * batch * heads * tokens, .n = tokens, .k = HEAD};
  snprintf(row.name, sizeof row.name, "%s.%s", name, backward ? "backward" : "forward");
  compare(row, &t, NULL, 0, 2.0 * row.m * row.n * row.k, f32_peak());
}

static void bench_attentions(void) {
  for (int backward = 0; backward < 2; backward++) {
    bench_attention("vit_28", 128, 49, 3, backward);
    bench_attention("deit_t", 32, 197, 3, backward);
    bench_attention("deit_s", 16, 197, 6, backward);
  }
}

/* Best of several runs of `rounds` on every thread, in 1e9 a second. */
static double measure_peak(cg_peak_kind kind, int64_t rounds, void *data) {
  enum { RUNS = 20 };
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  cg_peak p;
  double best = 1e9;
  tt_diag_init(&diag, stderr);
  TT_ASSERT(cg_peak_open(&p, kind, cg_target_find(target, arena, &diag), arena, &diag) && trt_threads_init(threads, 64));
  trt_kargs args = {.bufs = &data, .imms = &rounds};
  for (int i = 0; i < RUNS; i++) {
    double start = now();
    trt_parallel(&args, p.fn, threads);
    best = fmin(best, now() - start);
  }
  double work = (double)p.work * (double)rounds * threads;
  cg_peak_close(&p);
  tt_arena_destroy(arena);
  return work / best * 1e-9;
}

static void measure_peaks(void) {
  enum { READ_BYTES = 192 << 20, ROUNDS = 1000000, TILE_ROUNDS = 20000 };
  char *data = aligned_alloc(64, READ_BYTES);
  TT_ASSERT(data != NULL);
  memset(data, 1, READ_BYTES);
  cg_peak read;
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  const cg_target *t = cg_target_find(target, arena, &diag);
  TT_ASSERT(cg_peak_open(&read, CG_PEAK_READ, t, arena, &diag));
  peaks.fma_gflops = measure_peak(CG_PEAK_FMA, ROUNDS, data);
  peaks.vnni_gops = measure_peak(CG_PEAK_DOT, ROUNDS, data);
  peaks.read_gbs = measure_peak(CG_PEAK_READ, READ_BYTES / read.work / threads, data);
  if (cg_has_tiles(t)) peaks.tile_gops = measure_peak(CG_PEAK_TILES, TILE_ROUNDS, data);
  if (cg_has_f32_tiles(t)) peaks.f32_tile_gflops = measure_peak(CG_PEAK_F32_TILES, TILE_ROUNDS, data);
  printf("peaks on %d thread%s: FMA %.1f GFLOP/s, dot product %.1f GOP/s, tile unit %.1f GOP/s and in float32 %.1f GFLOP/s, "
         "reading %.1f GB/s\n",
         threads, threads > 1 ? "s" : "", peaks.fma_gflops, peaks.vnni_gops, peaks.tile_gops, peaks.f32_tile_gflops,
         peaks.read_gbs);
  cg_peak_close(&read);
  tt_arena_destroy(arena);
  free(data);
}

static bool run_mode(const char *mode) {
  bool all = strcmp(mode, "all") == 0, known = all || strcmp(mode, "peaks") == 0;
  if (all || strcmp(mode, "quant") == 0) bench_quantizers(), known = true;
  if (all || strcmp(mode, "attention") == 0) bench_attentions(), known = true;
  if (all || strcmp(mode, "mx") == 0) each_model(products_mx), known = true;
  if (all || strcmp(mode, "linear") == 0) each_model(bench_linear), known = true;
  if (all || strcmp(mode, "f32") == 0) each_model(products_f32), known = true;
  return known;
}

int main(int argc, char **argv) {
  const char *modes[8], *json = NULL;
  int n = 0;
  for (int i = 1; i < argc; i++) {
    if (atoi(argv[i]) > 0)
      threads = atoi(argv[i]);
    else if (strcmp(argv[i], "--quick") == 0)
      quick = true;
    else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
      only = argv[++i];
    else if (strcmp(argv[i], "--target") == 0 && i + 1 < argc)
      target = argv[++i];
    else if (strcmp(argv[i], "--rivals") == 0 && i + 1 < argc)
      all_rivals = strcmp(argv[++i], "openblas") != 0;
    else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
      json = argv[++i];
    else if (n < 8)
      modes[n++] = argv[i];
  }
  if (n == 0) modes[n++] = "all";
  bench_load_rivals(threads, all_rivals);
  measure_peaks();
  for (int i = 0; i < n; i++) {
    if (run_mode(modes[i])) continue;
    fprintf(stderr,
            "usage: bench_kernels [threads] [mx|f32|linear|quant|attention|peaks]... [--quick] [--only TEXT] [--target TARGET] "
            "[--rivals openblas|all] [--json FILE]\n");
    return 2;
  }
  bench_print_medians();
  if (!json || bench_write_json(json, threads, &peaks)) return 0;
  fprintf(stderr, "bench_kernels: cannot write %s\n", json);
  return 1;
}
