/* Counter-based initial weights.
 *
 * Bits come from the splitmix64 finalizer (Steele, Lea & Flood 2014) over a counter. Normal numbers are the sum of twelve
 * uniform ones less six (variance 1, within 1 % of the normal distribution inside two deviations), redrawn outside two
 * deviations: additions only, so no libm decides the last bit and a seed means the same model everywhere. */
#include "models/init.h"
#include <math.h>

enum { DRAWS = 12, ATTEMPTS = 64 };

static uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/* Uniform in [0, 1), 32 bits. */
static double uniform(uint64_t key, uint64_t counter) { return (double)(mix(key ^ mix(counter)) >> 32) * 0x1p-32; }

static uint64_t key_of(int64_t seed, int64_t tensor) { return mix(mix((uint64_t)seed) + (uint64_t)tensor); }

static double normal(uint64_t key, uint64_t element) {
  double z = 0.0;
  for (uint64_t attempt = 0; attempt < ATTEMPTS; attempt++) {
    z = -6.0;
    for (uint64_t k = 0; k < DRAWS; k++) z += uniform(key, (element * ATTEMPTS + attempt) * DRAWS + k);
    if (fabs(z) <= 2.0) return z;
  }
  return 0.0; // 64 draws in a row outside two deviations: once in 10^85
}

void tt_init_normal(float *x, int64_t n, double deviation, int64_t seed, int64_t tensor) {
  uint64_t key = key_of(seed, tensor);
  for (int64_t i = 0; i < n; i++) x[i] = (float)(deviation * normal(key, (uint64_t)i));
}

void tt_init_uniform(float *x, int64_t n, double bound, int64_t seed, int64_t tensor) {
  uint64_t key = key_of(seed, tensor);
  for (int64_t i = 0; i < n; i++) x[i] = (float)(bound * (2.0 * uniform(key, (uint64_t)i) - 1.0));
}
