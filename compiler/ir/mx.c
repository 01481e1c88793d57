/* Scalar MX arithmetic. Sources: OCP Microscaling Formats (MX) v1.0; NUMERICS 1-3 and 5. Every generated kernel equals
 * these loops bit for bit, so they are written to be checked by eye: values are double wherever that makes a step exact. */
#include "compiler/ir/mx.h"
#include <math.h>
#include <string.h>
#include "compiler/ir/int4.h"
#include "compiler/support/diag.h"

enum { SCALE_NAN = 255, BLOCK_BYTES = TT_MX_BLOCK / 2, SEGMENT_BLOCKS = 4096 / TT_MX_BLOCK };

const int8_t tt_e2m1_doubled[8] = {0, 1, 2, 3, 4, 6, 8, 12};

static const double magnitudes[TT_MX_FORMATS][8] = {
    [TT_E2M1] = {0, 0.5, 1, 1.5, 2, 3, 4, 6},
    [TT_E3M0] = {0, 0.25, 0.5, 1, 2, 4, 8, 16},
};
/* The same as integers: magnitude * 2^fraction_bits. */
static const int fraction_bits[TT_MX_FORMATS] = {[TT_E2M1] = 1, [TT_E3M0] = 2};
static const int integers[TT_MX_FORMATS][8] = {
    [TT_E2M1] = {0, 1, 2, 3, 4, 6, 8, 12},
    [TT_E3M0] = {0, 1, 2, 4, 8, 16, 32, 64},
};
/* Exponent of the largest magnitude: 6 = 1.5 * 2^2, 16 = 1 * 2^4; and that magnitude's mantissa as float32 fraction bits.
 */
static const int top_exponent[TT_MX_FORMATS] = {[TT_E2M1] = 2, [TT_E3M0] = 4};
static const uint32_t top_fraction[TT_MX_FORMATS] = {[TT_E2M1] = 0x400000, [TT_E3M0] = 0};

float tt_mx_code_value(tt_format format, unsigned code) {
  float magnitude = (float)magnitudes[format][code & 7];
  return code & 8 ? -magnitude : magnitude;
}

double tt_mx_scale_value(uint8_t scale) { return scale == SCALE_NAN ? (double)NAN : ldexp(1.0, scale - 127); }

uint8_t tt_mx_scale(tt_format format, tt_scale_rule rule, float max) {
  uint32_t bits;
  memcpy(&bits, &max, sizeof bits);
  bits &= 0x7fffffff;
  int exponent = (int)(bits >> 23); /* biased; 0 for subnormals, whose scale clamps to byte 0 under either rule */
  uint32_t fraction = bits & 0x7fffff;
  if (exponent == 255) return SCALE_NAN;
  int scale = exponent - top_exponent[format];
  if (rule == TT_SCALE_CEIL && fraction > top_fraction[format]) scale++;
  return (uint8_t)(scale < 0 ? 0 : scale);
}

/* Of the neighbours lo = code i and hi = code i + 1, with lo < y < hi in units of the scale, the code to take. */
static int choose(const double *grid, int i, tt_rounding rounding, double y, double ema, unsigned bits) {
  double lo = grid[i], hi = grid[i + 1], middle = (lo + hi) / 2;
  if (rounding == TT_EMA) return ema < middle ? i : i + 1;
  if (rounding == TT_STOCHASTIC) {
    double step = hi - lo; /* lo is a whole number of steps in both formats */
    int64_t n = ((int64_t)(y / step * 65536) + bits) >> 16;
    return (double)n * step > lo ? i + 1 : i;
  }
  if (y == middle) return i + (i & 1);
  return y < middle ? i : i + 1;
}

unsigned tt_mx_code(tt_format format, tt_rounding rounding, float x, uint8_t scale, float ema, unsigned bits) {
  if (scale == SCALE_NAN) return 0;
  const double *grid = magnitudes[format];
  unsigned sign = signbit(x) ? 8 : 0;
  double y = ldexp(fabs((double)x), 127 - scale);
  double e = ldexp(sign ? -(double)ema : (double)ema, 127 - scale);
  int i = 7;
  while (grid[i] > y) i--;
  if (i < 7 && grid[i] < y) i = choose(grid, i, rounding, y, e, bits);
  return (unsigned)i | sign;
}

/* splitmix64's finalizer (Steele, Lea, Flood 2014; variant 13 of Stafford). */
static uint64_t mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

uint64_t tt_rng_key(int64_t seed, int64_t step, int64_t tensor) {
  return mix64(mix64(mix64((uint64_t)seed) + (uint64_t)step) + (uint64_t)tensor);
}

unsigned tt_rng_bits(uint64_t key, uint64_t element) {
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  uint32_t h = (uint32_t)(element >> 1) ^ k0;
  h ^= h >> 16;
  h *= 0x7feb352du;
  h += k1;
  h ^= h >> 15;
  h *= 0x846ca68bu;
  h ^= h >> 16;
  return element & 1 ? h >> 16 : h & 0xffff;
}

/* max |x| of n elements `stride` apart; NaN where any is NaN. */
static float block_max(const float *x, int64_t n, int64_t stride) {
  float max = 0;
  for (int64_t i = 0; i < n; i++) {
    float a = fabsf(x[i * stride]);
    if (isnan(a)) return a;
    if (a > max) max = a;
  }
  return max;
}

void tt_mx_quantize(tt_qspec q, int64_t rows, int64_t k, const float *x, int64_t row_stride, int64_t col_stride,
                    const float *ema, uint64_t rng_key, uint8_t *out) {
  TT_ASSERT(q.on && (q.rounding != TT_EMA || ema));
  if (q.format == TT_INT4) {
    tt_int4_quantize((tt_rounding)q.rounding, rows, k, x, row_stride, col_stride, rng_key, out);
    return;
  }
  tt_type type = tt_type_mx(q.format, rows, k);
  int64_t nb = tt_mx_blocks(k);
  uint8_t *scales = out + tt_mx_scale_offset(&type);
  memset(out, 0, tt_type_bytes(&type));
  for (int64_t b = 0; b < rows * nb; b++) {
    int64_t row = b / nb, first = b % nb * TT_MX_BLOCK;
    int64_t n = k - first < TT_MX_BLOCK ? k - first : TT_MX_BLOCK;
    const int64_t at = row * row_stride + first * col_stride;
    scales[b] = tt_mx_scale(q.format, q.scale, block_max(x + at, n, col_stride));
    for (int64_t i = 0; i < n; i++) {
      int64_t source = at + i * col_stride, element = b * TT_MX_BLOCK + i;
      unsigned bits = q.rounding == TT_STOCHASTIC ? tt_rng_bits(rng_key, (uint64_t)element) : 0;
      unsigned code = tt_mx_code(q.format, q.rounding, x[source], scales[b], ema ? ema[source] : 0, bits);
      out[element / 2] |= (uint8_t)(code << 4 * (element & 1));
    }
  }
}

/* Code of element i of block b. */
static unsigned code_at(const uint8_t *mx, int64_t b, int i) { return mx[b * BLOCK_BYTES + i / 2] >> 4 * (i & 1) & 15; }

void tt_mx_dequantize(const tt_type *type, const uint8_t *mx, float *out) {
  if (type->format == TT_INT4) {
    tt_int4_dequantize(type, mx, out);
    return;
  }
  int64_t rows = type->dim[0], k = type->dim[1], nb = tt_mx_blocks(k);
  const uint8_t *scales = mx + tt_mx_scale_offset(type);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t col = 0; col < k; col++) {
      int64_t b = row * nb + col / TT_MX_BLOCK;
      double value = tt_mx_code_value(type->format, code_at(mx, b, (int)(col % TT_MX_BLOCK)));
      out[row * k + col] = (float)(value * tt_mx_scale_value(scales[b]));
    }
}

/* S_k of NUMERICS 5: the dot product of two blocks, exact in double (at most 18 significant bits). Never -0. */
static double block_dot(const tt_type *ta, const uint8_t *a, int64_t block_a, const tt_type *tb, const uint8_t *b,
                        int64_t block_b) {
  uint8_t sa = a[tt_mx_scale_offset(ta) + (size_t)block_a], sb = b[tt_mx_scale_offset(tb) + (size_t)block_b];
  if (sa == SCALE_NAN || sb == SCALE_NAN) return NAN;
  int sum = 0;
  for (int i = 0; i < TT_MX_BLOCK; i++) {
    unsigned ca = code_at(a, block_a, i), cb = code_at(b, block_b, i);
    int product = integers[ta->format][ca & 7] * integers[tb->format][cb & 7];
    sum += (ca ^ cb) & 8 ? -product : product;
  }
  return ldexp(sum, sa - 127 + sb - 127 - fraction_bits[ta->format] - fraction_bits[tb->format]);
}

/* a + b rounded once to float32. Two block products may lie further apart than double's 53 bits, and where both are below
 * float32's normal range rounding twice would then go wrong: so an inexact double sum is first rounded to odd (Boldo and
 * Melquiond 2008), after which the second rounding is correct. */
static float add_once(double a, double b) {
  double sum = a + b, part = sum - a, error = (a - (sum - part)) + (b - part);
  int64_t bits;
  memcpy(&bits, &sum, sizeof bits);
  if (error != 0 && !isnan(error) && !(bits & 1)) sum = nextafter(sum, error > 0 ? (double)INFINITY : -(double)INFINITY);
  return (float)sum;
}

/* One segment of one output: blocks [first, last) of row i of a and row j of b. */
static float segment_dot(const tt_type *ta, const uint8_t *a, int64_t i, const tt_type *tb, const uint8_t *b, int64_t j,
                         int64_t first, int64_t last) {
  int64_t nb = tt_mx_blocks(ta->dim[1]);
  float acc = 0;
  for (int64_t k = first; k < last; k += 2) {
    double even = block_dot(ta, a, i * nb + k, tb, b, j * nb + k);
    double odd = k + 1 < last ? block_dot(ta, a, i * nb + k + 1, tb, b, j * nb + k + 1) : 0;
    acc += add_once(even, odd);
  }
  return acc;
}

void tt_mx_gemm(const tt_type *ta, const uint8_t *a, const tt_type *tb, const uint8_t *b, const float *bias, float *c) {
  TT_ASSERT(ta->dtype == TT_MX && tb->dtype == TT_MX && ta->dim[1] == tb->dim[1]);
  if (ta->format == TT_INT4) {
    TT_ASSERT(tb->format == TT_INT4);
    tt_int4_gemm(ta, a, tb, b, bias, c);
    return;
  }
  int64_t M = ta->dim[0], N = tb->dim[0], nb = tt_mx_blocks(ta->dim[1]);
  for (int64_t i = 0; i < M; i++)
    for (int64_t j = 0; j < N; j++) {
      float total = 0;
      for (int64_t first = 0; first < nb; first += SEGMENT_BLOCKS) {
        int64_t last = first + SEGMENT_BLOCKS < nb ? first + SEGMENT_BLOCKS : nb;
        total += segment_dot(ta, a, i, tb, b, j, first, last);
      }
      c[i * N + j] = bias ? total + bias[j] : total;
    }
}
