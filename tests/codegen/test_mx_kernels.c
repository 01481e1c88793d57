/* mx.quantize, mx.requantize, mx.dequantize equal the scalar reference bit for bit, for every setting, on values chosen to
 * meet every rounding case; mx.colsum is near the exact sums and does not depend on threads. */
#include <math.h>
#include <string.h>
#include "compiler/ir/mx.h"
#include "jit_case.h"

enum { SEED = 5, STEP = 11, TENSOR = 77 };

/* Numbers in and between grid points at many scales, ties, zeros of both signs, subnormals, and rarely NaN and infinity. */
static float hard_value(uint32_t *r, int block_exponent) {
  unsigned kind = jit_random(r) % 64;
  float sign = jit_random(r) & 1 ? -1.0f : 1.0f;
  if (kind < 4) return sign * 0.0f;
  if (kind == 4 && jit_random(r) % 40 == 0) return jit_random(r) & 1 ? NAN : sign * INFINITY;
  if (kind == 5) return sign * ldexpf((float)(jit_random(r) & 0xffff), -149);
  if (kind < 24) return sign * ldexpf((float)(jit_random(r) % 64), block_exponent - 3); /* ties and grid points */
  if (kind < 30)
    return sign * ldexpf(1.0f + (float)(jit_random(r) & 1) * 0x1p-23f, block_exponent + (int)(jit_random(r) % 8) - 6);
  return sign * ldexpf((float)(jit_random(r) & 0xffffff), block_exponent - 22 - (int)(jit_random(r) % 6));
}

static float *hard_matrix(tt_arena *arena, int64_t rows, int64_t cols, uint32_t *r) {
  static const int exponents[] = {0, -3, 5, -149, -140, -127, -120, 100, 124, -60};
  float *x = TT_NEW_N(arena, float, rows *cols);
  for (int64_t i = 0; i < rows * cols; i++) {
    int64_t block = i / cols / 32 * 7 + i % cols / 32;
    x[i] = block % 13 == 12 ? copysignf(0, (float)(i & 1) - 0.5f) : hard_value(r, exponents[block % 10]);
  }
  return x;
}

static tt_tensor f32_tensor(tt_arena *arena, int64_t rows, int64_t cols, const float *x) {
  return tt_tensor_from_bytes(arena, tt_type_make(TT_F32, 2, (int64_t[]){rows, cols}), x);
}

static tt_tensor rng_tensor(tt_arena *arena) {
  return tt_tensor_from_bytes(arena, tt_type_make(TT_I64, 1, (int64_t[]){2}), (int64_t[]){SEED, STEP});
}

static void expect_same_bytes(const uint8_t *want, const tt_tensor *got, const char *what) {
  size_t scales = tt_mx_scale_offset(&got->type), nb = (size_t)tt_mx_blocks(got->type.dim[1]);
  for (size_t i = 0; i < tt_type_bytes(&got->type); i++) {
    if (want[i] == got->mx[i]) continue;
    size_t block = i < scales ? i / 16 : i - scales;
    fail_msg("%s: %s of row %zu, block %zu is %02x, expected %02x", what, i < scales ? "code" : "scale", block / nb,
             block % nb, got->mx[i], want[i]);
  }
}

/* One quantizer on x [rows, cols]. */
static void check_quantize(tt_qspec q, bool across, int64_t rows, int64_t cols, const char *target) {
  tt_arena *arena = tt_arena_create();
  uint32_t r = 3;
  float *x = hard_matrix(arena, rows, cols, &r), *ema = hard_matrix(arena, rows, cols, &r);
  tt_tensor in[2] = {f32_tensor(arena, rows, cols, x)};
  if (q.rounding == TT_EMA) in[1] = f32_tensor(arena, rows, cols, ema);
  if (q.rounding == TT_STOCHASTIC) in[1] = rng_tensor(arena);
  tt_attr attrs[3] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TRANSPOSED, across), tt_attr_int(TT_A_TENSOR, TENSOR)};
  int n_in = q.rounding == TT_NEAREST ? 1 : 2, n_attrs = q.rounding == TT_STOCHASTIC ? 3 : 2;
  jit_case t = jit_case_next(TT_OP_MX_QUANTIZE, n_in, (tt_type[]){in[0].type, in[1].type}, n_attrs, attrs, target);
  uint8_t *want = tt_arena_alloc(arena, tt_type_bytes(&t.type));
  tt_mx_quantize(q, across ? cols : rows, across ? rows : cols, x, across ? 1 : cols, across ? cols : 1,
                 q.rounding == TT_EMA ? ema : NULL, tt_rng_key(SEED, STEP, TENSOR), want);
  for (int threads = 1; t.jit && threads <= 3; threads += 2) {
    char what[160], text[64];
    snprintf(what, sizeof what, "%s%s of [%lld,%lld] on %s, %d threads", tt_qspec_print(q, text, sizeof text),
             across ? " across" : "", (long long)rows, (long long)cols, target, threads);
    tt_tensor got = jit_case_run(&t, in, threads);
    expect_same_bytes(want, &got, what);
  }
  jit_case_close(&t);
  tt_arena_destroy(arena);
}

static void each_setting(void (*check)(tt_qspec, const char *)) {
  for (const char *const *target = jit_targets(); *target; target++)
    for (unsigned i = 0; i < TT_MX_FORMATS * TT_MX_SCALES * TT_ROUNDING_COUNT; i++) {
      tt_qspec q = {.on = true, .format = i & 1, .scale = i >> 1 & 1, .rounding = (uint8_t)(i >> 2)};
      check(q, *target);
    }
}

static void quantize_setting(tt_qspec q, const char *target) {
  check_quantize(q, false, 70, 333, target);
  check_quantize(q, true, 333, 70, target);
}

static void test_settings(void **state) {
  (void)state;
  each_setting(quantize_setting);
}

static void test_shapes(void **state) {
  (void)state;
  static const int64_t shapes[][2] = {{1, 1}, {1, 32}, {33, 1}, {31, 31}, {64, 64}, {200, 96}, {1000, 17}};
  tt_qspec q = {.on = true, .format = TT_E2M1, .scale = TT_SCALE_CEIL, .rounding = TT_STOCHASTIC};
  for (const char *const *target = jit_targets(); *target; target++)
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
      check_quantize(q, false, shapes[i][0], shapes[i][1], *target);
      check_quantize(q, true, shapes[i][0], shapes[i][1], *target);
    }
}

/* A packed matrix made by the reference from hard values. */
static tt_tensor packed(tt_arena *arena, tt_format format, int64_t rows, int64_t cols) {
  uint32_t r = 9;
  tt_tensor t = {.type = tt_type_mx(format, rows, cols)};
  tt_qspec q = {.on = true, .format = format, .scale = TT_SCALE_CEIL, .rounding = TT_NEAREST};
  t.mx = tt_arena_alloc(arena, tt_type_bytes(&t.type));
  tt_mx_quantize(q, rows, cols, hard_matrix(arena, rows, cols, &r), cols, 1, NULL, 0, t.mx);
  return t;
}

/* Codes that come in all ways, with scales near each other except for some: a zero block's, a NaN, and where the byte path's
 * ranges end. Row 5 of every 32 is far off in one block, and has zeros there unless `full`. */
static tt_tensor byte_matrix(tt_arena *arena, int64_t rows, int64_t cols, int base, bool full) {
  uint32_t r = 7 + (uint32_t)base;
  tt_tensor t = {.type = tt_type_mx(TT_E2M1, rows, cols)};
  t.mx = tt_arena_alloc(arena, tt_type_bytes(&t.type));
  int64_t nb = tt_mx_blocks(cols);
  for (int64_t b = 0; b < rows * nb; b++) {
    int64_t row = b / nb, left = cols - b % nb * TT_MX_BLOCK;
    bool far = row % 32 == 5 && b % nb == row / 32 % nb;
    unsigned spread = (unsigned)(row / 32 % 9), sparse = jit_random(&r) % 4;
    int scale = far ? (int)(row / 32 * 37 % 256) : base - (int)(jit_random(&r) % (spread + 1));
    t.mx[tt_mx_scale_offset(&t.type) + (size_t)b] = (uint8_t)(far && !full ? 0 : scale);
    for (int i = 0; i < 16; i++) {
      unsigned byte = jit_random(&r) & 255, zero = jit_random(&r) & 3;
      if (zero < sparse) byte &= 0x88;
      if (sparse == 3 && b % 3 == 0 && i % 2) byte &= 0x88; /* columns of zeros only */
      if (far && !full) byte = 0;
      t.mx[b * 16 + i] = (uint8_t)(2 * i + 1 < left ? byte : 2 * i < left ? byte & 15 : 0);
    }
  }
  return t;
}

static void check_requantize(tt_qspec q, tt_tensor mx, const char *target) {
  tt_arena *arena = tt_arena_create();
  int64_t R = mx.type.dim[0], K = mx.type.dim[1];
  tt_tensor in[2] = {mx, rng_tensor(arena)};
  tt_attr attrs[2] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TENSOR, TENSOR)};
  int random = q.rounding == TT_STOCHASTIC;
  jit_case t =
      jit_case_next(TT_OP_MX_REQUANTIZE, 1 + random, (tt_type[]){in[0].type, in[1].type}, 1 + random, attrs, target);
  float *x = TT_NEW_N(arena, float, R *K);
  uint8_t *want = tt_arena_alloc(arena, tt_type_bytes(&t.type));
  tt_mx_dequantize(&mx.type, mx.mx, x);
  tt_mx_quantize(q, K, R, x, 1, K, NULL, tt_rng_key(SEED, STEP, TENSOR), want);
  if (t.jit) {
    tt_tensor got = jit_case_run(&t, in, 2);
    expect_same_bytes(want, &got, "requantized");
  }
  jit_case_close(&t);
  tt_arena_destroy(arena);
}

static void requantize_setting(tt_qspec q, const char *target) {
  if (q.rounding == TT_EMA) return;
  tt_arena *arena = tt_arena_create();
  check_requantize(q, packed(arena, TT_E2M1, 170, 75), target);
  tt_arena_destroy(arena);
}

static void test_requantize(void **state) {
  (void)state;
  each_setting(requantize_setting);
}

static void test_requantize_bytes(void **state) {
  (void)state;
  static const int bases[] = {127, 120, 64, 70, 250, 252, 9};
  for (const char *const *target = jit_targets(); *target; target++)
    for (int rounding = TT_NEAREST; rounding <= TT_STOCHASTIC; rounding++)
      for (size_t i = 0; i < (rounding == TT_NEAREST ? 3 : sizeof bases / sizeof bases[0]); i++) {
        tt_arena *arena = tt_arena_create();
        tt_qspec q = {.on = true, .format = TT_E2M1, .scale = i & 1, .rounding = (uint8_t)rounding};
        int64_t rows = i % 2 ? 320 : 301, cols = i % 3 == 0 ? 128 : i % 3 == 1 ? 90 : 192;
        check_requantize(q, byte_matrix(arena, rows, cols, bases[i], i % 4 == 1), *target);
        tt_arena_destroy(arena);
      }
}

static void check_dequantize(tt_format format, const char *target) {
  tt_arena *arena = tt_arena_create();
  tt_tensor in = packed(arena, format, 40, 203);
  jit_case t = jit_case_open(TT_OP_MX_DEQUANTIZE, 1, &in.type, 0, NULL, target);
  float *want = TT_NEW_N(arena, float, 40 * 203);
  tt_mx_dequantize(&in.type, in.mx, want);
  tt_tensor got = jit_case_run(&t, &in, 2);
  for (int i = 0; i < 40 * 203; i++) {
    float x = (float)got.d[i];
    if (memcmp(&x, &want[i], sizeof x) != 0 && !(isnan(x) && isnan(want[i])))
      fail_msg("element %d is %a, expected %a", i, (double)x, (double)want[i]);
  }
  jit_case_close(&t);
  tt_arena_destroy(arena);
}

static void check_colsum(tt_format format, const char *target) {
  tt_arena *arena = tt_arena_create();
  int64_t R = 777, K = 75;
  float *x = TT_NEW_N(arena, float, R *K);
  uint32_t r = 1;
  for (int64_t i = 0; i < R * K; i++) x[i] = (float)(jit_random(&r) % 2001) / 1000 - 1;
  tt_qspec q = {.on = true, .format = format};
  tt_tensor in = {.type = tt_type_mx(format, R, K)};
  in.mx = tt_arena_alloc(arena, tt_type_bytes(&in.type));
  tt_mx_quantize(q, R, K, x, K, 1, NULL, 0, in.mx);
  tt_mx_dequantize(&in.type, in.mx, x);
  jit_case t = jit_case_open(TT_OP_MX_COLSUM, 1, &in.type, 0, NULL, target);
  tt_tensor one = jit_case_run(&t, &in, 1), three = jit_case_run(&t, &in, 3);
  for (int64_t k = 0; k < K; k++) {
    double sum = 0;
    for (int64_t i = 0; i < R; i++) sum += (double)x[i * K + k];
    if (fabs(one.d[k] - sum) > 1e-3) fail_msg("column %lld is %g, expected %g", (long long)k, one.d[k], sum);
    assert_true(one.d[k] == three.d[k]);
  }
  jit_case_close(&t);
  tt_arena_destroy(arena);
}

static void test_back(void **state) {
  (void)state;
  for (const char *const *target = jit_targets(); *target; target++)
    for (int format = 0; format < TT_MX_FORMATS; format++) {
      check_dequantize((tt_format)format, *target);
      check_colsum((tt_format)format, *target);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_settings), cmocka_unit_test(test_shapes),
                                     cmocka_unit_test(test_requantize),
                                     cmocka_unit_test(test_requantize_bytes), cmocka_unit_test(test_back)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
