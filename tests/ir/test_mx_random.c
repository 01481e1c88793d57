/* The counter-based generator: pinned values (computed by a second implementation in Python), uniformity, independence of
 * neighbouring elements, steps, tensors and seeds. Bounds are 5 standard errors at fixed keys. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "compiler/ir/mx.h"

enum { DRAWS = 1 << 19 };

static void pinned_values(void **state) {
  (void)state;
  static const uint64_t elements[7] = {0, 1, 2, 3, 1000, (UINT64_C(1) << 33) + 2, UINT64_C(123456789012)};
  static const struct {
    int64_t seed, step, tensor;
    uint64_t key;
    unsigned bits[7];
  } known[] = {
      {0, 0, 0, 0, {0, 0, 37056, 26761, 3375, 37056, 2142}},
      {0, 0, 1, UINT64_C(0x5692161d100b05e5), {63013, 58638, 5220, 34556, 19021, 5220, 25827}},
      {1, 2, 3, UINT64_C(0x6ea43fa50cdbd352), {44634, 9995, 18317, 19079, 16519, 18317, 18693}},
      {-5, 1000000, 77, UINT64_C(0x91c6ec8e5daa2b9e), {6432, 23954, 52178, 30366, 20078, 52178, 24914}},
  };
  for (int i = 0; i < 4; i++) {
    assert_true(tt_rng_key(known[i].seed, known[i].step, known[i].tensor) == known[i].key);
    for (int e = 0; e < 7; e++) assert_int_equal(tt_rng_bits(known[i].key, elements[e]), known[i].bits[e]);
  }
}

typedef unsigned stream(int64_t i);
static unsigned along_elements(int64_t i) { return tt_rng_bits(tt_rng_key(1, 2, 3), (uint64_t)i); }
static unsigned along_even_elements(int64_t i) { return tt_rng_bits(tt_rng_key(0, 0, 0), (uint64_t)(2 * i)); }
static unsigned along_rows(int64_t i) { return tt_rng_bits(tt_rng_key(1, 2, 3), (uint64_t)(i * 192)); }
static unsigned along_steps(int64_t i) { return tt_rng_bits(tt_rng_key(1, i, 3), 17); }
static unsigned along_tensors(int64_t i) { return tt_rng_bits(tt_rng_key(1, 2, i), 17); }
static unsigned along_seeds(int64_t i) { return tt_rng_bits(tt_rng_key(i, 2, 3), 17); }
static stream *const streams[] = {along_elements, along_even_elements, along_rows, along_steps, along_tensors, along_seeds};
enum { STREAMS = sizeof streams / sizeof *streams };

/* Chi-square of both bytes of the 16 bits over 256 bins each: 255 degrees of freedom, standard deviation sqrt(510). */
static void bytes_are_uniform(void **state) {
  (void)state;
  for (int s = 0; s < STREAMS; s++) {
    double bins[2][256] = {{0}}, expected = DRAWS / 256.0;
    for (int64_t i = 0; i < DRAWS; i++) {
      unsigned bits = streams[s](i);
      assert_true(bits < 65536);
      bins[0][bits & 255]++;
      bins[1][bits >> 8]++;
    }
    for (int byte = 0; byte < 2; byte++) {
      double chi2 = 0;
      for (int i = 0; i < 256; i++) chi2 += (bins[byte][i] - expected) * (bins[byte][i] - expected) / expected;
      if (fabs(chi2 - 255) > 5 * sqrt(510)) fail_msg("stream %d, byte %d: chi-square %g", s, byte, chi2);
    }
  }
}

/* Correlation coefficient of x[i] with x[i + lag], times sqrt(n): a standard normal. */
static void neighbours_are_uncorrelated(void **state) {
  (void)state;
  static float x[DRAWS];
  for (int s = 0; s < STREAMS; s++) {
    for (int64_t i = 0; i < DRAWS; i++) x[i] = (float)streams[s](i) / 65536.0f - 0.5f;
    for (int lag = 1; lag <= 64; lag++) {
      double sum = 0;
      int n = DRAWS - lag;
      for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i + lag];
      double z = sum * 12 / sqrt(n);
      if (fabs(z) > 5) fail_msg("stream %d, lag %d: correlation is %g standard errors off 0", s, lag, z);
    }
  }
}

/* The same elements under neighbouring keys: whole tensors must differ as if drawn afresh. */
static void tensors_are_uncorrelated_between_keys(void **state) {
  (void)state;
  for (int pair = 0; pair < 12; pair++) {
    int64_t near = pair / 3;
    uint64_t a = tt_rng_key(near, near, near);
    uint64_t b = tt_rng_key(near + (pair % 3 == 0), near + (pair % 3 == 1), near + (pair % 3 == 2));
    double sum = 0, same = 0;
    for (uint64_t e = 0; e < DRAWS; e++) {
      unsigned x = tt_rng_bits(a, e), y = tt_rng_bits(b, e);
      sum += ((double)x / 65536 - 0.5) * ((double)y / 65536 - 0.5) * 12;
      same += (x >> 8) == (y >> 8);
    }
    double expected = DRAWS / 256.0;
    if (fabs(sum / sqrt(DRAWS)) > 5 || fabs(same - expected) > 5 * sqrt(expected))
      fail_msg("pair %d: correlation %g, equal bytes %g of %g", pair, sum / sqrt(DRAWS), same, expected);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pinned_values),
      cmocka_unit_test(bytes_are_uniform),
      cmocka_unit_test(neighbours_are_uncorrelated),
      cmocka_unit_test(tensors_are_uncorrelated_between_keys),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
