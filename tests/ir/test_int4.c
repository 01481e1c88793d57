/* Per-tensor INT4 against a reference written from NUMERICS 9 in another style: candidates and distances in double instead
 * of steps, sums of values instead of codes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "compiler/ir/int4.h"
#include "compiler/ir/mx.h"

static uint64_t next_random(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return *state >> 33;
}

static float uniform(uint64_t *state) { return (float)next_random(state) / 1073741824.0f - 1.0f; }
static tt_qspec spec(tt_rounding r) { return (tt_qspec){true, TT_INT4, TT_SCALE_TENSOR, (uint8_t)r, TT_DIRECT}; }

/* Quotients of float32 numbers rounded to double first and then to float32 are correctly rounded (53 >= 2 * 24 + 2). */
static float quotient(float a, float b) { return (float)((double)a / (double)b); }

static int nearest_of(double y) {
  int best = 0;
  for (int n = 1; n <= 7; n++) {
    double old = fabs(y - best), distance = fabs(y - n);
    if (distance < old || (distance == old && n % 2 == 0)) best = n;
  }
  return best;
}

static int stochastic_of(double y, unsigned bits) {
  if (y >= 7) return 7;
  double lo = floor(y), part = floor((y - lo) * 65536); /* in 65536ths; up where bits are at least 65536 - part */
  return (int)lo + (bits >= 65536 - part);
}

static void scale_is_a_seventh(void **state) {
  (void)state;
  uint64_t random = 3;
  assert_true(isnan(tt_int4_scale(NAN)) && isnan(tt_int4_scale(INFINITY)));
  assert_true(tt_int4_scale(0) == 0x1p-126f && tt_int4_scale(0x1p-149f) == 0x1p-126f &&
              tt_int4_scale(0x1.cp-124f) == 0x1p-126f);
  assert_true(tt_int4_scale(7) == 1 && tt_int4_scale(0x1.fffffep127f) < 0x1.fffffep127f / 6);
  for (int i = 0; i < 1000000; i++) {
    float max = ldexpf(uniform(&random) + 2, (int)(next_random(&random) % 245) - 122);
    assert_true(tt_int4_scale(max) == quotient(max, 7));
  }
}

/* Ten million codes: the grid, its ties and their neighbours, and anything between, at many scales. */
static void codes_equal_the_reference(void **state) {
  (void)state;
  uint64_t random = 1;
  float scale = 1;
  for (int i = 0; i < 5000000; i++) {
    if (i % 1000 == 0) scale = tt_int4_scale(ldexpf(uniform(&random) + 2, (int)(next_random(&random) % 250) - 125));
    unsigned kind = next_random(&random) % 4, bits = next_random(&random) & 0xffff;
    float x = uniform(&random) * 7.1f * scale;
    if (kind == 0) x = (float)((int)(next_random(&random) % 29) - 14) / 2 * scale;
    if (kind == 1) x = nextafterf((float)((int)(next_random(&random) % 29) - 14) / 2 * scale, uniform(&random));
    float y = quotient(fabsf(x), scale);
    int nearest = nearest_of((double)y), drawn = stochastic_of((double)y, bits);
    int got[2] = {tt_int4_value(tt_int4_code(TT_NEAREST, x, scale, bits)),
                  tt_int4_value(tt_int4_code(TT_STOCHASTIC, x, scale, bits))};
    if (got[0] != (x < 0 ? -nearest : nearest) || got[1] != (x < 0 ? -drawn : drawn))
      fail_msg("%a at %a: %d and %d, expected %d and %d", (double)x, (double)scale, got[0], got[1], nearest, drawn);
  }
}

static void ties_signs_saturation(void **state) {
  (void)state;
  static const struct {
    float x;
    int n;
  } cases[] = {{0.5f, 0},  {1.5f, 2}, {2.5f, 2}, {-2.5f, -2},     {6.5f, 6},  {-5.5f, -6},
               {6.51f, 7}, {7, 7},    {100, 7},  {-INFINITY, -7}, {-0.0f, 0}, {-0.4f, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    assert_int_equal(tt_int4_value(tt_int4_code(TT_NEAREST, cases[i].x, 1, 0xffff)), cases[i].n);
  for (int n = -7; n <= 7; n++) /* numbers of the grid stay */
    for (unsigned bits = 0; bits < 0x10000; bits += 0xff)
      assert_int_equal(tt_int4_value(tt_int4_code(TT_STOCHASTIC, (float)n, 1, bits)), n);
  assert_int_equal(tt_int4_code(TT_NEAREST, -3, 1, 0), 13);
  assert_int_equal(tt_int4_code(TT_NEAREST, 3, NAN, 0), 0);
  assert_int_equal(tt_int4_value(8), -8);
}

/* Over all random bits the mean is the value, but for the truncation to 65536ths. */
static void stochastic_is_unbiased(void **state) {
  (void)state;
  for (float y = -6.99f; y < 7; y += 0.37f) {
    double sum = 0;
    for (unsigned bits = 0; bits < 0x10000; bits++) sum += tt_int4_value(tt_int4_code(TT_STOCHASTIC, y, 1, bits));
    assert_true(fabs(sum / 65536 - (double)y) <= 0x1p-16);
  }
}

enum { R = 37, K = 45 };

static void matrix(uint64_t *random, float *x, int n) {
  for (int i = 0; i < n; i++) x[i] = uniform(random) * 3;
}

static void storage_and_axes(void **state) {
  (void)state;
  uint64_t random = 5;
  tt_type t = tt_type_mx(TT_INT4, R, K), turned = tt_type_mx(TT_INT4, K, R);
  static float x[R * K], values[R * K];
  static uint8_t rows[R * 64], cols[K * 64], back[K * 64];
  assert_int_equal(tt_type_bytes(&t), R * 32 + 4);
  matrix(&random, x, R * K);
  tt_mx_quantize(spec(TT_NEAREST), R, K, x, K, 1, NULL, 0, rows);
  tt_mx_quantize(spec(TT_NEAREST), K, R, x, 1, K, NULL, 0, cols);
  tt_int4_transpose(&t, rows, back);
  assert_memory_equal(cols, back, tt_type_bytes(&turned)); /* a code does not depend on the axis */
  assert_int_equal(rows[0], (tt_int4_code(TT_NEAREST, x[1], tt_int4_scale_of(&t, rows), 0) << 4) |
                                tt_int4_code(TT_NEAREST, x[0], tt_int4_scale_of(&t, rows), 0));
  assert_int_equal(rows[22] >> 4, 0); /* element 45 of row 0: padding */
  tt_mx_dequantize(&t, rows, values);
  for (int i = 0; i < R * K; i++) assert_true(fabsf(values[i] - x[i]) <= 0.5001f * tt_int4_scale_of(&t, rows));
}

static void whole_tensors_of_nothing_and_nan(void **state) {
  (void)state;
  tt_type t = tt_type_mx(TT_INT4, 2, 40);
  float x[80] = {0}, back[80];
  uint8_t q[80];
  tt_mx_quantize(spec(TT_STOCHASTIC), 2, 40, x, 40, 1, NULL, 99, q);
  for (int i = 0; i < 64; i++) assert_int_equal(q[i], 0);
  tt_mx_dequantize(&t, q, back);
  for (int i = 0; i < 80; i++) assert_true(back[i] == 0 && !signbit(back[i]));
  for (int i = 0; i < 80; i++) x[i] = (float)i;
  x[79] = NAN; /* in the last row: all of the tensor is lost */
  tt_mx_quantize(spec(TT_NEAREST), 2, 40, x, 40, 1, NULL, 0, q);
  tt_mx_dequantize(&t, q, back);
  for (int i = 0; i < 80; i++) assert_true(isnan(back[i]));
  for (int i = 0; i < 64; i++) assert_int_equal(q[i], 0);
}

/* y = (sum of whole numbers) * (sa * sb) + bias, each step rounded once; column sums likewise. */
static void products_and_sums(void **state) {
  (void)state;
  uint64_t random = 11;
  enum { M = 9, N = 7 };
  tt_type ta = tt_type_mx(TT_INT4, M, K), tb = tt_type_mx(TT_INT4, N, K);
  static float x[R * K], w[R * K], bias[N], y[M * N], sums[K];
  static uint8_t a[M * 64], b[N * 64];
  matrix(&random, x, M * K);
  matrix(&random, w, N * K);
  matrix(&random, bias, N);
  tt_mx_quantize(spec(TT_STOCHASTIC), M, K, x, K, 1, NULL, 4, a);
  tt_mx_quantize(spec(TT_NEAREST), N, K, w, K, 1, NULL, 0, b);
  const float sa = tt_int4_scale_of(&ta, a), sb = tt_int4_scale_of(&tb, b);
  tt_mx_dequantize(&ta, a, x);
  tt_mx_dequantize(&tb, b, w);
  tt_mx_gemm(&ta, a, &tb, b, bias, y);
  tt_int4_colsum(&ta, a, sums);
  for (int i = 0; i < M * N; i++) {
    double sum = 0;
    for (int k = 0; k < K; k++)
      sum += round((double)x[i / N * K + k] / (double)sa) * round((double)w[i % N * K + k] / (double)sb);
    volatile float scale = sa * sb, product = (float)sum * scale, want = product + bias[i % N];
    assert_true(y[i] == want);
  }
  for (int k = 0; k < K; k++) {
    double sum = 0;
    for (int i = 0; i < M; i++) sum += round((double)x[i * K + k] / (double)sa);
    assert_true(sums[k] == (float)sum * sa);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(scale_is_a_seventh),    cmocka_unit_test(codes_equal_the_reference),
      cmocka_unit_test(ties_signs_saturation), cmocka_unit_test(stochastic_is_unbiased),
      cmocka_unit_test(storage_and_axes),      cmocka_unit_test(whole_tensors_of_nothing_and_nan),
      cmocka_unit_test(products_and_sums)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
