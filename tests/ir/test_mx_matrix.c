/* Whole MX matrices: storage layout, tails, strides, and the GEMM against two other implementations: plain sums where
 * everything is exact, and the order of NUMERICS 5 written over arrays instead of loops within loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "compiler/ir/mx.h"

enum { MAX_BYTES = 1 << 16, MAX_BLOCKS = 512 };
static const tt_qspec nearest = {true, TT_E2M1, TT_SCALE_CEIL, TT_NEAREST, TT_DIRECT};

static unsigned next_random(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (unsigned)(*state >> 33);
}

static float uniform(uint64_t *state) { return (float)next_random(state) / 1073741824.0f - 1.0f; }

/* Random codes and scales in [low, low + spread]; the tail of a row is code 0 as the layout demands. */
static void random_mx(uint64_t *state, const tt_type *t, int low, int spread, uint8_t *mx) {
  int64_t rows = t->dim[0], k = t->dim[1], nb = tt_mx_blocks(k);
  memset(mx, 0, tt_type_bytes(t));
  for (int64_t row = 0; row < rows; row++)
    for (int64_t i = 0; i < k; i++) mx[(row * nb * 32 + i) / 2] |= (uint8_t)(next_random(state) % 16 << 4 * (i & 1));
  for (int64_t b = 0; b < rows * nb; b++)
    mx[tt_mx_scale_offset(t) + (size_t)b] = (uint8_t)(low + (int)(next_random(state) % (unsigned)(spread + 1)));
}

static void codes_and_scales_lie_where_the_layout_says(void **state) {
  (void)state;
  float x[2 * 40];
  for (int i = 0; i < 80; i++) x[i] = i < 40 ? 0.5f : -12.0f;
  x[1] = 6;
  x[32] = 0.75f;
  tt_type t = tt_type_mx(TT_E2M1, 2, 40);
  uint8_t mx[68], all[68];
  memset(mx, 0xee, sizeof mx);
  assert_int_equal(tt_type_bytes(&t), 68);
  tt_mx_quantize(nearest, 2, 40, x, 40, 1, NULL, 0, mx);
  memset(all, 0, sizeof all);
  memset(all, 0x11, 16);      /* row 0, block 0: 0.5 at scale 1, */
  all[0] = 0x71;              /* with 6 as element 1, the high nibble */
  memset(all + 16, 0x66, 4);  /* row 0, block 1: maximum 0.75, scale 1/8, 0.5 is 4 steps of it; 24 elements of padding */
  all[16] = 0x67;             /* 0.75 is 6 */
  memset(all + 32, 0xff, 20); /* row 1: -12 is -6 at scale 2 */
  all[64] = 127;
  all[65] = 124;
  all[66] = all[67] = 128;
  assert_memory_equal(mx, all, sizeof all);
  float back[80];
  tt_mx_dequantize(&t, mx, back);
  for (int i = 0; i < 80; i++) assert_true(back[i] == x[i]);
}

static void strides_transpose(void **state) {
  (void)state;
  enum { R = 37, C = 45 };
  static float x[R * C], xt[C * R];
  static uint8_t a[MAX_BYTES], b[MAX_BYTES];
  uint64_t random = 2;
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) xt[c * R + r] = x[r * C + c] = uniform(&random);
  for (int rounding = 0; rounding < TT_ROUNDING_COUNT; rounding++) {
    tt_qspec q = nearest;
    q.rounding = (uint8_t)rounding;
    tt_type t = tt_type_mx(TT_E2M1, C, R);
    tt_mx_quantize(q, C, R, x, 1, C, x, 99, a); /* columns in place */
    tt_mx_quantize(q, C, R, xt, R, 1, xt, 99, b);
    assert_memory_equal(a, b, tt_type_bytes(&t));
  }
}

static void random_bits_are_keyed_by_padded_element(void **state) {
  (void)state;
  enum { R = 3, K = 45 };
  float x[R * K];
  uint8_t mx[R * 34];
  uint64_t random = 4, key = tt_rng_key(1, 1, 1);
  for (int i = 0; i < R * K; i++) x[i] = uniform(&random);
  tt_qspec q = {true, TT_E2M1, TT_SCALE_CEIL, TT_STOCHASTIC, TT_DIRECT};
  tt_mx_quantize(q, R, K, x, K, 1, NULL, key, mx);
  for (int r = 0; r < R; r++)
    for (int k = 0; k < K; k++) {
      int e = r * 64 + k;
      unsigned got = mx[e / 2] >> 4 * (e & 1) & 15;
      assert_int_equal(
          got, tt_mx_code(TT_E2M1, TT_STOCHASTIC, x[r * K + k], mx[R * 32 + e / 32], 0, tt_rng_bits(key, (uint64_t)e)));
    }
}

static void special_blocks(void **state) {
  (void)state;
  float x[4 * 32] = {0}, back[4 * 32];
  x[32 + 7] = NAN;
  x[32 + 8] = 1;
  x[64] = -INFINITY;
  x[96] = 0x1p-149f; /* below the smallest scale: nearest is 0, but a multiple of 2^-128 survives */
  x[97] = -0x1p-128f;
  x[98] = -0.0f;
  tt_type t = tt_type_mx(TT_E2M1, 4, 32);
  uint8_t mx[4 * 17];
  tt_mx_quantize(nearest, 4, 32, x, 32, 1, NULL, 0, mx);
  static const uint8_t scales[4] = {0, 255, 255, 0};
  assert_memory_equal(mx + 64, scales, 4);
  tt_mx_dequantize(&t, mx, back);
  for (int i = 0; i < 32; i++) {
    assert_true(back[i] == 0 && isnan(back[32 + i]) && isnan(back[64 + i]));
    assert_true(mx[16 + i / 2] == 0); /* codes of a NaN block are 0 */
  }
  assert_true(back[96] == 0 && back[97] == -0x1p-128f && back[98] == 0 && signbit(back[98]));
}

static const double e2m1[16] = {0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6};
static const double e3m0[16] = {0, .25, .5, 1, 2, 4, 8, 16, -0., -.25, -.5, -1, -2, -4, -8, -16};

/* Element i of a row, scale and all, as double. */
static double element(const tt_type *t, const uint8_t *mx, int64_t row, int64_t i) {
  int64_t at = row * tt_mx_blocks(t->dim[1]) * 32 + i;
  unsigned code = mx[at / 2] >> 4 * (at % 2) & 15;
  return (t->format == TT_E2M1 ? e2m1 : e3m0)[code] * tt_mx_scale_value(mx[tt_mx_scale_offset(t) + (size_t)(at / 32)]);
}

static void gemm_equals_plain_sums_where_all_is_exact(void **state) {
  (void)state;
  enum { M = 9, N = 7 };
  static uint8_t a[MAX_BYTES], b[MAX_BYTES];
  float c[M * N], bias[N];
  uint64_t random = 21;
  for (int trial = 0; trial < 200; trial++) {
    int64_t k = 1 + next_random(&random) % 128;
    tt_type ta = tt_type_mx(trial % 3 == 1 ? TT_E3M0 : TT_E2M1, M, k), tb = tt_type_mx(trial % 3 ? TT_E3M0 : TT_E2M1, N, k);
    random_mx(&random, &ta, 126, 1, a);
    random_mx(&random, &tb, 127, 1, b);
    for (int j = 0; j < N; j++) bias[j] = (float)(next_random(&random) % 64) / 8;
    tt_mx_gemm(&ta, a, &tb, b, trial & 1 ? bias : NULL, c);
    for (int64_t i = 0; i < M; i++)
      for (int64_t j = 0; j < N; j++) {
        double sum = trial & 1 ? (double)bias[j] : 0;
        for (int64_t e = 0; e < k; e++) sum += element(&ta, a, i, e) * element(&tb, b, j, e);
        if ((double)c[i * N + j] != sum) fail_msg("trial %d: %a, expected %a", trial, (double)c[i * N + j], sum);
      }
  }
}

static double correctly(double a, double b) { return (double)(float)(a + b); } /* float32 addition of float32 values */

/* One output by the book: S_k, then p_j, then one accumulator a segment, then their sum. */
static float ordered(const tt_type *ta, const uint8_t *a, int64_t i, const tt_type *tb, const uint8_t *b, int64_t j,
                     const float *bias) {
  double s[MAX_BLOCKS] = {0}, p[MAX_BLOCKS / 2], acc[MAX_BLOCKS / 128] = {0};
  int64_t k = ta->dim[1];
  for (int64_t e = 0; e < k; e++) s[e / 32] += element(ta, a, i, e) * element(tb, b, j, e);
  for (int pair = 0; pair < MAX_BLOCKS / 2; pair++) p[pair] = (double)(float)(s[2 * pair] + s[2 * pair + 1]);
  for (int pair = 0; pair < MAX_BLOCKS / 2; pair++) acc[pair / 64] = correctly(acc[pair / 64], p[pair]);
  double total = acc[0];
  for (int segment = 1; segment < MAX_BLOCKS / 128; segment++) total = correctly(total, acc[segment]);
  return (float)(bias ? correctly(total, (double)bias[j]) : total);
}

static void check_order(uint64_t *random, tt_format fa, tt_format fb, int64_t k, int low_a, int low_b, int spread) {
  enum { M = 3, N = 2 };
  static uint8_t a[MAX_BYTES], b[MAX_BYTES];
  tt_type ta = tt_type_mx(fa, M, k), tb = tt_type_mx(fb, N, k);
  float c[M * N], bias[N] = {0.1f, -3};
  random_mx(random, &ta, low_a, spread, a);
  random_mx(random, &tb, low_b, spread, b);
  tt_mx_gemm(&ta, a, &tb, b, bias, c);
  for (int64_t i = 0; i < M * N; i++) {
    float want = ordered(&ta, a, i / N, &tb, b, i % N, bias);
    if (memcmp(&want, &c[i], sizeof want) != 0 && !(isnan(want) && isnan(c[i])))
      fail_msg("K %lld, scales from %d and %d: %a, expected %a", (long long)k, low_a, low_b, (double)c[i], (double)want);
  }
}

static void gemm_adds_in_the_order_of_the_format(void **state) {
  (void)state;
  uint64_t random = 77;
  static const int64_t lengths[] = {1,    31,   32,   33,   63,   64,   65,   96,    192,  768,
                                    1000, 4064, 4095, 4096, 4097, 4128, 8192, 12345, 16384};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
    for (int trial = 0; trial < 4; trial++) {
      check_order(&random, TT_E2M1, TT_E2M1, lengths[i], 120, 124, 6);
      check_order(&random, TT_E2M1, TT_E2M1, lengths[i], 60, 40, 12); /* subnormal results */
      check_order(&random, TT_E3M0, TT_E2M1, lengths[i], 110, 110, 15);
    }
  for (int trial = 0; trial < 50; trial++) {
    check_order(&random, TT_E2M1, TT_E2M1, 160, 0, 100, 25);   /* subnormal scales */
    check_order(&random, TT_E2M1, TT_E2M1, 160, 180, 190, 20); /* up to and over the largest float32 */
    check_order(&random, TT_E3M0, TT_E3M0, 160, 0, 230, 24);
  }
}

/* One block of `code` in element 0 for each scale given; everything else 0. */
static float two_by_hand(const uint8_t *codes, const uint8_t *scales, int64_t nb) {
  uint8_t a[17 * 4] = {0}, b[17 * 4] = {0};
  tt_type t = tt_type_mx(TT_E2M1, 1, nb * 32);
  for (int64_t k = 0; k < nb; k++) {
    a[k * 16] = codes[k];
    b[k * 16] = 2; /* 1 */
    a[nb * 16 + k] = scales[2 * k];
    b[nb * 16 + k] = scales[2 * k + 1];
  }
  float c;
  tt_mx_gemm(&t, a, &t, b, NULL, &c);
  return c;
}

static void pairs_round_once_outside_the_range_of_float32(void **state) {
  (void)state;
  /* 2^-150 alone is halfway between 0 and 2^-149 and goes to 0; 2^-254 more, lost in double, tips it over. */
  assert_true(two_by_hand((uint8_t[]){2}, (uint8_t[]){50, 54}, 1) == 0);
  assert_true(two_by_hand((uint8_t[]){2, 2}, (uint8_t[]){50, 54, 0, 0}, 2) == 0x1p-149f);
  assert_true(two_by_hand((uint8_t[]){10, 10}, (uint8_t[]){50, 54, 0, 0}, 2) == -0x1p-149f);
  /* 1.5 * 2^-149 is halfway too, and goes to even 2^-148, but 2^-254 less brings it down. */
  assert_true(two_by_hand((uint8_t[]){3}, (uint8_t[]){51, 54}, 1) == 0x1p-148f);
  assert_true(two_by_hand((uint8_t[]){3, 10}, (uint8_t[]){51, 54, 0, 0}, 2) == 0x1p-149f);
  /* 2^200 - 2^200 cancels exactly; alone it is infinite. */
  assert_true(two_by_hand((uint8_t[]){2, 10}, (uint8_t[]){227, 227, 227, 227}, 2) == 0);
  assert_true(isinf(two_by_hand((uint8_t[]){2, 0}, (uint8_t[]){227, 227, 0, 0}, 2)));
  assert_true(isnan(two_by_hand((uint8_t[]){2, 2, 2, 10}, (uint8_t[]){227, 227, 127, 127, 127, 127, 227, 227}, 4)));
  assert_true(isnan(two_by_hand((uint8_t[]){2, 0}, (uint8_t[]){127, 127, 255, 127}, 2)));
  assert_false(signbit(two_by_hand((uint8_t[]){8, 8}, (uint8_t[]){127, 127, 127, 127}, 2)));
  assert_false(signbit(two_by_hand((uint8_t[]){10, 8}, (uint8_t[]){0, 0, 0, 0}, 2))); /* -2^-254 is 0 after the +0 */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(codes_and_scales_lie_where_the_layout_says),
      cmocka_unit_test(strides_transpose),
      cmocka_unit_test(random_bits_are_keyed_by_padded_element),
      cmocka_unit_test(special_blocks),
      cmocka_unit_test(gemm_equals_plain_sums_where_all_is_exact),
      cmocka_unit_test(gemm_adds_in_the_order_of_the_format),
      cmocka_unit_test(pairs_round_once_outside_the_range_of_float32),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
