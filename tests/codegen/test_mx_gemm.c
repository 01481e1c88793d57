/* mx.gemm: generated code equals the scalar reference bit for bit, whatever the shape, the scales and the threads. */
#include <math.h>
#include <string.h>
#include "compiler/ir/mx.h"
#include "jit_case.h"

/* How operands are filled. */
typedef enum {
  USUAL,       /* scales near 1 */
  WIDE,        /* scales far apart, also inside a pair */
  SUBNORMAL,   /* products around and below the normal range */
  ZERO_BLOCKS, /* blocks of +-0 with scale byte 0 among others */
  WITH_NAN,
  ANY_SCALE,    /* all 256 scale bytes */
  SATURATED,    /* every code the largest */
  SHIFTED,      /* likewise, and the scales of a pair up to 3 apart */
  CLOSE,        /* every pair can share a scale; blocks of zeros among them */
  MOSTLY_CLOSE, /* a few cannot */
  ONE_FAR,      /* likewise; and one row is outside the fast range */
  OVERFLOWING   /* scales near the top */
} filling;

enum { FAR_ROW = 60 };

static unsigned scale_for(filling how, uint32_t *r) {
  switch (how) {
  case WIDE: return 60 + jit_random(r) % 120;
  case SUBNORMAL: return 55 + jit_random(r) % 12;
  case WITH_NAN: return jit_random(r) % 50 ? 120 + jit_random(r) % 12 : 255;
  case ANY_SCALE: return jit_random(r) % 256;
  case SATURATED: return 127;
  case SHIFTED: return 127 - jit_random(r) % 4;
  case CLOSE: return 120 + jit_random(r) % 3;
  case MOSTLY_CLOSE:
  case ONE_FAR: return jit_random(r) % 500 ? 120 + jit_random(r) % 2 : 126;
  case OVERFLOWING: return 200 + jit_random(r) % 55;
  default: return 120 + jit_random(r) % 12;
  }
}

static uint8_t *random_mx(tt_arena *arena, const tt_type *type, filling how, uint32_t *r) {
  uint8_t *mx = tt_arena_alloc(arena, tt_type_bytes(type)), *scales = mx + tt_mx_scale_offset(type);
  int64_t K = type->dim[1], nb = tt_mx_blocks(K);
  for (int64_t b = 0; b < type->dim[0] * nb; b++) {
    bool zero = (how == ZERO_BLOCKS || how == ANY_SCALE || how == CLOSE) && jit_random(r) % 4 == 0;
    for (int64_t i = 0; i < 32 && b % nb * 32 + i < K; i++) {
      unsigned code = how == SATURATED || how == SHIFTED ? 7 : jit_random(r) % 16;
      mx[b * 16 + i / 2] |= (uint8_t)((zero ? code & 8 : code) << 4 * (i & 1));
    }
    scales[b] = (uint8_t)(zero ? 0 : scale_for(how, r));
    if (how == ONE_FAR && b / nb == FAR_ROW) scales[b] = 1;
  }
  return mx;
}

static void expect_same_bits(const float *want, const tt_tensor *got, int64_t N, const char *what) {
  for (int64_t i = 0; i < tt_type_count(&got->type); i++) {
    float x = (float)got->d[i];
    if (memcmp(&x, &want[i], sizeof x) == 0 || (isnan(x) && isnan(want[i]))) continue;
    fail_msg("%s: [%lld,%lld] is %a, expected %a", what, (long long)(i / N), (long long)(i % N), (double)x,
             (double)want[i]);
  }
}

typedef struct gemm_case {
  int M, N, K, bias;
  bool shared; /* an operand is decoded once for all tasks, into the workspace, which nothing else of a product takes */
  filling first, last; /* all fillings from one to the other */
  tt_format fa, fb;
} gemm_case;

static void check_filling(jit_case *t, const gemm_case *s, const tt_type *types, filling how, const char *target) {
  uint32_t r = 7;
  float *bias = TT_NEW_N(t->arena, float, s->N), *want = TT_NEW_N(t->arena, float, s->M * s->N);
  tt_tensor in[3];
  for (int i = 0; i < s->N; i++) bias[i] = (float)(jit_random(&r) % 1000) / 7 * (how == SUBNORMAL ? 1e-40f : 1);
  for (int i = 0; i < 2; i++) in[i] = (tt_tensor){.type = types[i], .mx = random_mx(t->arena, &types[i], how, &r)};
  in[2] = tt_tensor_from_bytes(t->arena, types[2], bias);
  tt_mx_gemm(&types[0], in[0].mx, &types[1], in[1].mx, s->bias ? bias : NULL, want);
  for (int threads = 1; threads <= 3; threads++) {
    char what[128];
    tt_tensor got = jit_case_run(t, in, threads);
    snprintf(what, sizeof what, "%dx%dx%d filling %d on %s, %d threads", s->M, s->N, s->K, how, target, threads);
    expect_same_bits(want, &got, s->N, what);
  }
}

static void check(const gemm_case *s, const char *target) {
  tt_type types[3] = {tt_type_mx(s->fa, s->M, s->K), tt_type_mx(s->fb, s->N, s->K),
                      tt_type_make(TT_F32, 1, (int64_t[]){s->N})};
  jit_case t = jit_case_next(TT_OP_MX_GEMM, 2 + s->bias, types, 0, NULL, target);
  if (t.jit) assert_int_equal(cg_jit_workspace(t.jit).bytes > 0, s->shared);
  for (filling how = s->first; t.jit && how <= s->last; how++) check_filling(&t, s, types, how, target);
  jit_case_close(&t);
}

static void sweep(const gemm_case *cases, size_t n) {
  for (const char *const *target = jit_targets(); *target; target++)
    for (size_t i = 0; i < n; i++) check(&cases[i], *target);
}

static void test_shapes(void **state) {
  (void)state;
  static const gemm_case cases[] = {
      {.M = 1, .N = 1, .K = 1},
      {.M = 1, .N = 1, .K = 32},
      {.M = 7, .N = 40, .K = 65, .bias = 1},
      {.M = 64, .N = 33, .K = 800},
      {.M = 13, .N = 33, .K = 4096},
      {.M = 13, .N = 35, .K = 4097, .bias = 1},
      {.M = 20, .N = 35, .K = 9000},
      {.M = 300, .N = 100, .K = 130},
      {.M = 100, .N = 70, .K = 1300, .bias = 1},
      {.M = 1100, .N = 976, .K = 40, .bias = 1}, /* C is stored past the caches */
  };
  sweep(cases, sizeof cases / sizeof cases[0]);
}

static void test_scales(void **state) {
  (void)state;
  static const gemm_case cases[] = {
      {.M = 37, .N = 67, .K = 300, .bias = 1, .first = WIDE, .last = OVERFLOWING},
      {.M = 19, .N = 35, .K = 4500, .first = WIDE, .last = OVERFLOWING},
      {.M = 110, .N = 67, .K = 1700, .bias = 1, .first = SHIFTED, .last = ONE_FAR},
  };
  sweep(cases, sizeof cases / sizeof cases[0]);
}

/* Equal chunks and a shorter last one, one segment and two; of B two groups of panels, of A more rows than others take. */
static void test_shared(void **state) {
  (void)state;
  static const gemm_case cases[] = {
      {.M = 577, .N = 66, .K = 1000, .bias = 1, .shared = true, .first = ONE_FAR, .last = ONE_FAR},
      {.M = 577, .N = 15, .K = 4500, .shared = true, .first = WIDE, .last = WIDE},
      {.M = 530, .N = 140, .K = 850, .shared = true, .first = MOSTLY_CLOSE, .last = MOSTLY_CLOSE},
      {.M = 49, .N = 720, .K = 1000, .bias = 1, .shared = true, .first = CLOSE, .last = ONE_FAR},
      {.M = 49, .N = 768, .K = 4500, .bias = 1, .shared = true, .first = WIDE, .last = WIDE},
      {.M = 300, .N = 768, .K = 850, .shared = true, .first = ONE_FAR, .last = ONE_FAR},
      {.M = 4000, .N = 10, .K = 192}, /* strips of all columns, too small to be worth a launch */
  };
  sweep(cases, sizeof cases / sizeof cases[0]);
}

static void test_formats(void **state) {
  (void)state;
  static const gemm_case cases[] = {
      {.M = 37, .N = 67, .K = 300, .fa = TT_E3M0, .fb = TT_E3M0, .first = USUAL, .last = OVERFLOWING},
      {.M = 37, .N = 67, .K = 300, .fa = TT_E3M0, .fb = TT_E2M1, .first = USUAL, .last = OVERFLOWING},
      {.M = 37, .N = 67, .K = 300, .fa = TT_E2M1, .fb = TT_E3M0, .first = USUAL, .last = OVERFLOWING},
  };
  sweep(cases, sizeof cases / sizeof cases[0]);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_scales),
                                     cmocka_unit_test(test_shared), cmocka_unit_test(test_formats)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
