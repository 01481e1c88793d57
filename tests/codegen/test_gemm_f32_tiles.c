/* Float32 products made of bfloat16 pieces are float32 products: their error is that of multiply-adds, and what the pieces
 * cannot hold is left to these. Skipped where the machine has no such tiles. */
#include <math.h>
#include <string.h>
#include "jit_case.h"

#define VECTORS "cpu:v4"
#define TILES "cpu:v4+amx-tile+amx-int8+amx-bf16"

typedef enum { ORDINARY, WIDE, CANCELLING, RANGES } range;

typedef struct product {
  int M, N, K, ta, tb;
} product;

static float draw(range kind, uint32_t *state, int k) {
  float x = ((float)(jit_random(state) % (1 << 24)) - (1 << 23)) / (1 << 23);
  if (kind == WIDE) return ldexpf(x, (int)(jit_random(state) % 60) - 30);
  if (kind == CANCELLING) return k % 2 ? 1000 + x : -1000 - x / 2;
  return x;
}

static void fill(tt_tensor *t, bool k_first, int K, range kind, uint32_t seed) {
  int64_t n = tt_type_count(&t->type);
  for (int64_t i = 0; i < n; i++) t->d[i] = draw(kind, &seed, (int)(k_first ? i / (n / K) : i % K));
}

static tt_type matrix(int rows, int cols) { return tt_type_make(TT_F32, 2, (int64_t[]){rows, cols}); }

static double at(const tt_tensor *t, const product *p, int transposed, int row, int col, bool left) {
  int64_t stride = left ? (transposed ? p->M : p->K) : (transposed ? p->K : p->N);
  return t->d[transposed ? col * stride + row : row * stride + col];
}

static jit_case open_product(const product *p, const char *target) {
  tt_type types[2] = {p->ta ? matrix(p->K, p->M) : matrix(p->M, p->K), p->tb ? matrix(p->N, p->K) : matrix(p->K, p->N)};
  tt_attr attrs[2] = {tt_attr_int(TT_A_TRANS_A, p->ta), tt_attr_int(TT_A_TRANS_B, p->tb)};
  return jit_case_open(TT_OP_MATMUL, 2, types, 2, attrs, target);
}

typedef struct error {
  double most, rms;
} error;

/* In units of 2^-24 times the sum of the products' magnitudes. */
static error error_of(const product *p, const tt_tensor *in, const tt_tensor *got) {
  error e = {0};
  for (int m = 0; m < p->M; m++)
    for (int n = 0; n < p->N; n++) {
      double sum = 0, size = 0;
      for (int k = 0; k < p->K; k++) {
        double x = at(&in[0], p, p->ta, m, k, true) * at(&in[1], p, p->tb, k, n, false);
        sum += x, size += fabs(x);
      }
      double here = fabs(got->d[m * p->N + n] - sum) / size * 16777216;
      e.most = fmax(e.most, here), e.rms += here * here;
    }
  e.rms = sqrt(e.rms / p->M / p->N);
  return e;
}

static bool has_tiles(const char *target) {
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  const cg_target *t = cg_target_find(target, arena, &diag);
  bool have = t && cg_target_runs_here(t) && strstr(cg_target_describe(t), "float32 products by");
  tt_diag_free(&diag);
  tt_arena_destroy(arena);
  return have;
}

static void new_operands(const product *p, tt_tensor *in, tt_arena *arena) {
  in[0] = tt_tensor_new(arena, p->ta ? matrix(p->K, p->M) : matrix(p->M, p->K));
  in[1] = tt_tensor_new(arena, p->tb ? matrix(p->N, p->K) : matrix(p->K, p->N));
}

static void test_error(void **state) {
  (void)state;
  if (!has_tiles(TILES)) skip();
  static const product products[] = {
      {64, 64, 64, 0, 1}, {97, 70, 200, 0, 0}, {70, 97, 197, 1, 0}, {64, 80, 1024, 0, 1}};
  static const char *const kinds[RANGES] = {"ordinary", "wide", "cancelling"};
  for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
    const product *p = &products[i];
    jit_case t[2] = {open_product(p, VECTORS), open_product(p, TILES)};
    for (int kind = 0; kind < RANGES; kind++) {
      error e[2];
      tt_tensor in[2];
      new_operands(p, in, t[0].arena);
      fill(&in[0], p->ta, p->K, (range)kind, 1);
      fill(&in[1], !p->tb, p->K, (range)kind, 2);
      for (int way = 0; way < 2; way++) {
        tt_tensor got = jit_case_run(&t[way], in, 1);
        e[way] = error_of(p, in, &got);
      }
      print_message("%4dx%4dx%4d %-10s  vectors: most %6.2f rms %5.2f  tiles: most %6.2f rms %5.2f\n", p->M, p->N, p->K,
                    kinds[kind], e[0].most, e[0].rms, e[1].most, e[1].rms);
      assert_true(e[1].most <= 1.5 * e[0].most && e[1].rms <= 1.1 * e[0].rms);
    }
    for (int way = 0; way < 2; way++) jit_case_close(&t[way]);
  }
}

/* Infinities, NaN and floats that would round to infinity: multiply-adds take the product, or the two strips of B where B is
 * split by two strips (tb). */
static void check_ends(int tb) {
  const product p = {64, 96, 64, 0, tb};
  static const float ends[] = {INFINITY, -INFINITY, NAN, 3.4e38f, -0x1p127f};
  jit_case t[2] = {open_product(&p, VECTORS), open_product(&p, TILES)};
  for (size_t i = 0; i < 2 * sizeof ends / sizeof ends[0]; i++) {
    tt_tensor in[2];
    new_operands(&p, in, t[0].arena);
    fill(&in[0], false, p.K, ORDINARY, 3);
    fill(&in[1], !tb, p.K, ORDINARY, 4);
    in[i % 2].d[i % 2 && !tb ? 7 * p.N + 40 : 40 * p.K + 7] = ends[i / 2];
    tt_tensor want = jit_case_run(&t[0], in, 1), got = jit_case_run(&t[1], in, 1);
    for (int at = 0; at < p.M * p.N; at++) {
      bool same = i % 2 == 0 || !tb || (at % p.N >= 32 && at % p.N < 64);
      if (same && memcmp(&want.d[at], &got.d[at], sizeof *got.d) != 0)
        fail_msg("element %d: %g, not %g", at, got.d[at], want.d[at]);
      if (!same) assert_true(fabs(want.d[at] - got.d[at]) < 1e-4);
    }
  }
  for (int way = 0; way < 2; way++) jit_case_close(&t[way]);
}

/* The same of a fused linear, B split by two strips, whose last task has 44 rows, no multiple of a strip of multiply-adds. */
static void check_fused_ends(void) {
  enum { TASK = 128 };
  const product p = {2 * TASK + 44, 96, 64, 0, 1};
  static const int64_t of = TT_OP_LINEAR, keep = 1;
  const tt_attr attrs[2] = {{TT_A_OF, {.ints = {1, &of}}}, {TT_A_KEEP, {.ints = {1, &keep}}}};
  const tt_type types[2] = {matrix(p.M, p.K), matrix(p.N, p.K)};
  jit_case t[2] = {jit_case_open(TT_OP_LINEAR, 2, types, 0, NULL, VECTORS),
                   jit_case_open(TT_OP_MX_FUSED, 2, types, 2, attrs, TILES)};
  for (int i = 0; i < 2; i++) {
    tt_tensor in[2];
    new_operands(&p, in, t[0].arena);
    fill(&in[0], false, p.K, ORDINARY, 7);
    fill(&in[1], false, p.K, ORDINARY, 8);
    in[i].d[i ? 40 * p.K + 7 : (2 * TASK + 2) * p.K + 7] = INFINITY;
    tt_tensor want = jit_case_run(&t[0], in, 1), got = jit_case_run(&t[1], in, 1);
    for (int at = 0; at < p.M * p.N; at++) {
      bool same = i ? at % p.N >= 32 && at % p.N < 64 : at / p.N >= 2 * TASK;
      if (same && memcmp(&want.d[at], &got.d[at], sizeof *got.d) != 0)
        fail_msg("element %d: %g, not %g", at, got.d[at], want.d[at]);
      if (!same) assert_true(fabs(want.d[at] - got.d[at]) < 1e-4);
    }
  }
  for (int way = 0; way < 2; way++) jit_case_close(&t[way]);
}

static void test_ends_of_the_range(void **state) {
  (void)state;
  if (!has_tiles(TILES)) skip();
  for (int tb = 0; tb < 2; tb++) check_ends(tb);
  check_fused_ends();
}

/* An operand is exact to 2^-126, as where subnormal ones count as zeros. */
static void test_small_values(void **state) {
  (void)state;
  if (!has_tiles(TILES)) skip();
  const product p = {64, 64, 64, 0, 1};
  tt_tensor in[2], want;
  jit_case t = open_product(&p, TILES);
  new_operands(&p, in, t.arena);
  fill(&in[0], false, p.K, ORDINARY, 5);
  fill(&in[1], false, p.K, ORDINARY, 6);
  for (int i = 0; i < p.M * p.K; i++) in[0].d[i] = ldexp(in[0].d[i], -(i % 150)), in[1].d[i] *= 1 << 20;
  tt_tensor got = jit_case_run(&t, in, 1);
  tt_eval_graph(t.g, in, NULL, &want, false, t.arena);
  for (int m = 0; m < p.M; m++)
    for (int n = 0; n < p.N; n++) {
      double bound = 0, y;
      for (int k = 0; k < p.K; k++) {
        y = fabs(in[1].d[n * p.K + k]);
        bound += y * (ldexp(fabs(in[0].d[m * p.K + k]), -21) + 0x1p-125);
      }
      assert_true(fabs(got.d[m * p.N + n] - want.d[m * p.N + n]) <= bound);
    }
  jit_case_close(&t);
}

/* The unit is used on request alone, and one that is left out is not asked for when the trainer starts. */
static void test_switch(void **state) {
  (void)state;
  if (!has_tiles("cpu:host+amx-bf16")) skip();
  assert_false(has_tiles("cpu"));
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  const cg_target *t = cg_target_find("cpu:host-amx-tile", arena, &diag);
  assert_non_null(t);
  assert_null(strstr(cg_target_needs(t, arena), "amx"));
  tt_diag_free(&diag);
  tt_arena_destroy(arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_switch), cmocka_unit_test(test_error),
                                     cmocka_unit_test(test_ends_of_the_range), cmocka_unit_test(test_small_values)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
