/* tt_mx_scale and tt_mx_code against a reference that searches all scales and all codes instead of taking bits apart. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "compiler/ir/mx.h"

static const double e2m1[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
static const double e3m0[8] = {0, 0.25, 0.5, 1, 2, 4, 8, 16};
static const double *grid_of(tt_format f) { return f == TT_E2M1 ? e2m1 : e3m0; }

static float from_bits(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static uint32_t next_random(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(*state >> 32);
}

/* ceil: the smallest scale at which max does not exceed the largest magnitude. floor: the largest at which max reaches the
 * largest power of two of the grid; byte 0 where none does. */
static int searched_scale(tt_format f, tt_scale_rule rule, float max) {
  double scale = ldexp(1, -127), top = grid_of(f)[7], power = f == TT_E2M1 ? 4 : 16;
  int byte = 0;
  if (rule == TT_SCALE_CEIL)
    for (; (double)max > top * scale; scale *= 2) byte++;
  else
    for (; (double)max >= power * scale * 2; scale *= 2) byte++;
  return byte;
}

static void check_scale(float max) {
  for (int f = 0; f < TT_MX_FORMATS; f++)
    for (int rule = 0; rule < TT_MX_SCALES; rule++)
      if (tt_mx_scale(f, rule, max) != searched_scale(f, rule, max))
        fail_msg("format %d, rule %d, max %a: %d, expected %d", f, rule, (double)max, tt_mx_scale(f, rule, max),
                 searched_scale(f, rule, max));
}

static void scales_equal_a_search(void **state) {
  (void)state;
  uint64_t random = 1;
  static const uint32_t fractions[] = {0, 1, 0x3fffff, 0x400000, 0x400001, 0x7fffff, 0x200000, 0x600000};
  for (uint32_t exponent = 0; exponent < 255; exponent++)
    for (int i = 0; i < 8; i++) check_scale(from_bits(exponent << 23 | fractions[i]));
  for (int i = 0; i < 300000; i++) {
    uint32_t bits = next_random(&random) & 0x7fffffff;
    if (bits < 0x7f800000) check_scale(from_bits(bits));
  }
  for (int f = 0; f < TT_MX_FORMATS; f++) {
    assert_int_equal(tt_mx_scale(f, TT_SCALE_CEIL, NAN), 255);
    assert_int_equal(tt_mx_scale(f, TT_SCALE_FLOOR, INFINITY), 255);
    assert_int_equal(tt_mx_scale(f, TT_SCALE_CEIL, 0), 0);
  }
}

static void scale_examples(void **state) {
  (void)state;
  assert_int_equal(tt_mx_scale(TT_E2M1, TT_SCALE_CEIL, 6), 127);
  assert_int_equal(tt_mx_scale(TT_E2M1, TT_SCALE_CEIL, nextafterf(6, 7)), 128);
  assert_int_equal(tt_mx_scale(TT_E2M1, TT_SCALE_FLOOR, 7.9f), 127);
  assert_int_equal(tt_mx_scale(TT_E2M1, TT_SCALE_FLOOR, 8), 128);
  assert_int_equal(tt_mx_scale(TT_E3M0, TT_SCALE_CEIL, 16), 127);
  assert_int_equal(tt_mx_scale(TT_E3M0, TT_SCALE_CEIL, nextafterf(16, 17)), 128);
  assert_int_equal(tt_mx_scale(TT_E3M0, TT_SCALE_FLOOR, 31.9f), 127);
  assert_int_equal(tt_mx_scale(TT_E2M1, TT_SCALE_CEIL, 0x1p-149f), 0);
  assert_int_equal(tt_mx_scale(TT_E2M1, TT_SCALE_CEIL, 0x1.fffffep127f), 253);
  assert_true(tt_mx_scale_value(0) == 0x1p-127 && tt_mx_scale_value(254) == 0x1p127 && isnan(tt_mx_scale_value(255)));
  for (unsigned code = 0; code < 8; code++) {
    assert_true((double)tt_mx_code_value(TT_E2M1, code) == e2m1[code] && tt_e2m1_doubled[code] == 2 * e2m1[code]);
    assert_true((double)tt_mx_code_value(TT_E3M0, code | 8) == -e3m0[code]);
  }
  assert_true(signbit(tt_mx_code_value(TT_E2M1, 8)));
}

/* The closest of all magnitudes; of two as close the one of even code. */
static unsigned searched_nearest(tt_format f, float x, uint8_t scale) {
  const double *grid = grid_of(f);
  double y = fmin(fabs((double)x) / tt_mx_scale_value(scale), grid[7]);
  unsigned best = 0;
  for (unsigned i = 1; i < 8; i++) {
    double here = fabs(grid[i] - y), there = fabs(grid[best] - y);
    if (here < there || (here == there && i % 2 == 0)) best = i;
  }
  return best | (signbit(x) ? 8 : 0);
}

static void check_nearest(tt_format f, float x, uint8_t scale) {
  unsigned got = tt_mx_code(f, TT_NEAREST, x, scale, 0, 0), want = searched_nearest(f, x, scale);
  if (got != want) fail_msg("format %d, x %a, scale %d: code %u, expected %u", f, (double)x, scale, got, want);
}

/* Every multiple of 2^-17 up to beyond saturation: so every grid point, every tie and both sides of each. */
static void nearest_on_a_dense_grid(void **state) {
  (void)state;
  for (int f = 0; f < TT_MX_FORMATS; f++) {
    int last = (f == TT_E2M1 ? 9 : 20) << 17;
    for (int k = -last; k <= last; k++) check_nearest(f, ldexpf((float)k, -17), 127);
  }
}

static void nearest_around_ties_at_every_scale(void **state) {
  (void)state;
  for (int f = 0; f < TT_MX_FORMATS; f++)
    for (int scale = 0; scale < 255; scale++)
      for (int i = 0; i < 7; i++) {
        double tie = (grid_of(f)[i] + grid_of(f)[i + 1]) / 2 * tt_mx_scale_value((uint8_t)scale);
        if (tie > 0x1p127) continue;
        float x[3] = {(float)tie, nextafterf((float)tie, 0), nextafterf((float)tie, INFINITY)};
        for (int k = 0; k < 3; k++) {
          check_nearest(f, x[k], (uint8_t)scale);
          check_nearest(f, -x[k], (uint8_t)scale);
        }
      }
}

/* Any float, at its own scale and at up to 8 binades more: what a value in a block meets. */
static void nearest_on_random_floats(void **state) {
  (void)state;
  uint64_t random = 7;
  for (int i = 0; i < 2000000; i++) {
    uint32_t bits = next_random(&random);
    float x = from_bits(bits);
    if (!isfinite(x)) continue;
    tt_format f = i & 1 ? TT_E3M0 : TT_E2M1;
    int scale = tt_mx_scale(f, i & 2 ? TT_SCALE_FLOOR : TT_SCALE_CEIL, fabsf(x)) + (int)(next_random(&random) % 9);
    check_nearest(f, x, (uint8_t)(scale > 254 ? 254 : scale));
  }
}

static void signs_zeros_and_nan_blocks(void **state) {
  (void)state;
  for (int r = 0; r < TT_ROUNDING_COUNT; r++) {
    assert_int_equal(tt_mx_code(TT_E2M1, r, -0.0f, 127, 1, 0xffff), 8);
    assert_int_equal(tt_mx_code(TT_E2M1, r, 0.0f, 0, -1, 0xffff), 0);
    assert_int_equal(tt_mx_code(TT_E2M1, r, -100.0f, 127, 0, 0xffff), 15);
    assert_int_equal(tt_mx_code(TT_E2M1, r, 7.9f, 127, 0, 0), 7);
    assert_int_equal(tt_mx_code(TT_E2M1, r, NAN, 255, 0, 0), 0);
    assert_int_equal(tt_mx_code(TT_E2M1, r, -1.0f, 255, 0, 0), 0);
    for (unsigned code = 0; code < 16; code++) /* what lies on the grid stays, whatever the average and the bits say */
      assert_int_equal(tt_mx_code(TT_E2M1, r, tt_mx_code_value(TT_E2M1, code), 127, 3, 0xffff), code);
  }
  assert_int_equal(tt_mx_code(TT_E2M1, TT_NEAREST, -0.1f, 127, 0, 0), 8);
  assert_int_equal(tt_mx_code(TT_E2M1, TT_STOCHASTIC, 0x1p-149f, 200, 0, 0xffff), 0);
  assert_int_equal(tt_mx_code(TT_E2M1, TT_NEAREST, 0x1p-127f, 0, 0, 0), 2); /* subnormal values at a subnormal scale */
}

/* Of all 65,536 draws exactly floor(65536 * (y - lo) / (hi - lo)) take hi, and they are the largest ones. */
static void stochastic_counts_are_exact(void **state) {
  (void)state;
  uint64_t random = 3;
  for (int trial = 0; trial < 120; trial++) {
    tt_format f = trial & 1 ? TT_E3M0 : TT_E2M1;
    const double *grid = grid_of(f);
    float x = ldexpf((float)(next_random(&random) >> 8), -24) * (float)grid[7];
    if (trial % 5 == 0) x = ldexpf(x, -6);
    unsigned lo = 0;
    while (lo < 7 && grid[lo + 1] <= (double)x) lo++;
    long want = lo < 7 ? (long)floor(((double)x - grid[lo]) / (grid[lo + 1] - grid[lo]) * 65536) : 0;
    for (long bits = 0; bits < 65536; bits++) {
      unsigned code = tt_mx_code(f, TT_STOCHASTIC, x, 127, 0, (unsigned)bits);
      if (code != lo + (bits >= 65536 - want)) fail_msg("x %a, bits %ld: code %u", (double)x, bits, code);
    }
  }
}

/* Mean of 4,096 keyed draws within 4 standard errors of the value. */
static void stochastic_is_unbiased(void **state) {
  (void)state;
  enum { DRAWS = 4096, POINTS = 193 };
  double chi2 = 0;
  int random_points = 0;
  for (int point = 0; point < POINTS; point++) {
    float y = (float)(point - POINTS / 2) / 16.0f + 0.011f;
    double sum = 0, magnitude = fabs((double)y);
    unsigned lo = 0;
    while (e2m1[lo + 1] <= magnitude && lo < 6) lo++;
    double gap = e2m1[lo + 1] - e2m1[lo], p = (magnitude - e2m1[lo]) / gap;
    for (int draw = 0; draw < DRAWS; draw++) {
      unsigned bits = tt_rng_bits(tt_rng_key(5, draw, 9), (uint64_t)point);
      sum += (double)tt_mx_code_value(TT_E2M1, tt_mx_code(TT_E2M1, TT_STOCHASTIC, y, 127, 0, bits));
    }
    if (magnitude > 6) continue; /* saturates, on purpose */
    double z = (sum / DRAWS - (double)y) / (gap * sqrt(p * (1 - p) / DRAWS));
    if (!(fabs(z) < 4)) fail_msg("y %g: mean %g is %g standard errors off", (double)y, sum / DRAWS, z);
    chi2 += z * z;
    random_points++;
  }
  assert_true(random_points > 180 && fabs(chi2 / random_points - 1) < 4 * sqrt(2.0 / random_points));
}

/* The neighbour of x that is nearer to the average, as signed numbers; of two as near the larger magnitude. */
static void ema_takes_the_neighbour_nearer_to_the_average(void **state) {
  (void)state;
  uint64_t random = 11;
  for (int i = 0; i < 500000; i++) {
    tt_format f = i & 1 ? TT_E3M0 : TT_E2M1;
    const double *grid = grid_of(f);
    uint8_t scale = (uint8_t)(next_random(&random) % 250);
    double S = tt_mx_scale_value(scale), top = grid[7];
    double y = (double)next_random(&random) / 4294967296.0 * top * 1.1;
    double e = ((double)next_random(&random) / 4294967296.0 - 0.3) * top;
    if (i % 7 == 0) e = floor(e * 8) / 8; /* hits middles */
    double sign = i & 2 ? -1 : 1;
    float x = (float)(sign * y * S), ema = (float)(sign * e * S);
    double v = fabs((double)x) / S, signed_ema = (double)ema / S;
    unsigned lo = 7;
    while (grid[lo] > v) lo--;
    unsigned want = lo;
    if (lo < 7 && grid[lo] < v)
      want = fabs(signed_ema - sign * grid[lo]) < fabs(signed_ema - sign * grid[lo + 1]) ? lo : lo + 1;
    unsigned got = tt_mx_code(f, TT_EMA, x, scale, ema, 0);
    if (got != (want | (signbit(x) ? 8 : 0))) fail_msg("x/S %a, ema/S %a: code %u, expected %u", v, signed_ema, got, want);
  }
  assert_int_equal(tt_mx_code(TT_E2M1, TT_EMA, 2.1f, 127, -50, 0), 4);
  assert_int_equal(tt_mx_code(TT_E2M1, TT_EMA, 2.1f, 127, 50, 0), 5);
  assert_int_equal(tt_mx_code(TT_E2M1, TT_EMA, 2.1f, 127, 2.5f, 0), 5);
  assert_int_equal(tt_mx_code(TT_E2M1, TT_EMA, -2.1f, 127, -2.5f, 0), 13);
  assert_int_equal(tt_mx_code(TT_E2M1, TT_EMA, -2.1f, 127, 2.9f, 0), 12);
  assert_int_equal(tt_mx_code(TT_E2M1, TT_EMA, 2.1f, 127, NAN, 0), 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(scales_equal_a_search),
      cmocka_unit_test(scale_examples),
      cmocka_unit_test(nearest_on_a_dense_grid),
      cmocka_unit_test(nearest_around_ties_at_every_scale),
      cmocka_unit_test(nearest_on_random_floats),
      cmocka_unit_test(signs_zeros_and_nan_blocks),
      cmocka_unit_test(stochastic_counts_are_exact),
      cmocka_unit_test(stochastic_is_unbiased),
      cmocka_unit_test(ema_takes_the_neighbour_nearer_to_the_average),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
