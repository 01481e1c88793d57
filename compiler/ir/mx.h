/* Scalar MX arithmetic, the definition that every generated kernel equals bit for bit. Source: OCP Microscaling Formats
 * (MX) v1.0 and NUMERICS 1-3, 5. Written to be read, not to be fast. */
#ifndef TT_MX_H
#define TT_MX_H
#include <stdint.h>
#include "compiler/ir/qspec.h"

/* 2 * magnitude of E2M1 code 0..7: {0,1,2,3,4,6,8,12}. */
extern const int8_t tt_e2m1_doubled[8];

/* The float32 value of a 4-bit code (bit 3 = sign) at scale 2^0. */
float tt_mx_code_value(tt_format format, unsigned code);
/* 2^(scale - 127) as double; NaN for 255. */
double tt_mx_scale_value(uint8_t scale);
/* Scale byte from max |x| of a block: 255 where max is NaN or Inf (or `bad`), 0 where max is 0. */
uint8_t tt_mx_scale(tt_format format, tt_scale_rule rule, float max);
/* Code of x at a scale. `ema` is read with TT_EMA, `bits` (16 random bits) with TT_STOCHASTIC. Stochastic, defined so that it
 * is one integer expression: with y = |x| / S in units of the grid step u of y's binade, code magnitude (in steps) =
 * (trunc(y/u * 65536) + bits) >> 16: unbiased but for at most 2^-16 of a step toward zero (truncation). */
unsigned tt_mx_code(tt_format format, tt_rounding rounding, float x, uint8_t scale, float ema, unsigned bits);

/* Counter-based randomness (used by every stochastic op). key = mix of (seed, step, tensor id): splitmix64 finalizer M,
 *   key = M(M(M(seed) + step) + tensor);   k0 = low, k1 = high 32 bits.
 * Element e of an op's OUTPUT matrix [R, Kp] (Kp = 32 * blocks, e = row * Kp + k) takes half (e & 1) (0: low 16 bits,
 * 1: high 16) of word h(e >> 1), 32-bit arithmetic:
 *   h = c ^ k0; h ^= h >> 16; h *= 0x7feb352d; h += k1; h ^= h >> 15; h *= 0x846ca68b; h ^= h >> 16
 * with c the low 32 bits of e >> 1. */
uint64_t tt_rng_key(int64_t seed, int64_t step, int64_t tensor);
unsigned tt_rng_bits(uint64_t key, uint64_t element); /* 16 bits */

/* Whole matrices, in the storage layout of TT_MX (types.h). x is [rows, k] with element (r, c) at x[r*row_stride + c*col_stride];
 * ema likewise or NULL; rng_key used with TT_STOCHASTIC. */
void tt_mx_quantize(tt_qspec q, int64_t rows, int64_t k, const float *x, int64_t row_stride, int64_t col_stride,
                    const float *ema, uint64_t rng_key, uint8_t *out);
void tt_mx_dequantize(const tt_type *type, const uint8_t *mx, float *out); /* [rows, k] */
/* c[M,N] = a b^T + bias; the reference of NUMERICS 5: exact blocks, pairs, segments of 4096. bias may be NULL. */
void tt_mx_gemm(const tt_type *ta, const uint8_t *a, const tt_type *tb, const uint8_t *b, const float *bias, float *c);
#endif
