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
/* Scale byte from max |x| of a block: 255 where max is NaN or Inf, 0 where max is 0 or subnormal. */
uint8_t tt_mx_scale(tt_format format, tt_scale_rule rule, float max);
/* Code of x at a scale. `ema` is read with TT_EMA, `bits` (16 random bits) with TT_STOCHASTIC. The sign bit is x's, so -0
 * and negative values that round to 0 give code 8. At scale 255 every code is 0. y = |x| / S is exact; at or above Qmax it
 * saturates; on the grid it stays whatever the rounding. Between neighbours lo < y < hi:
 *   nearest     the nearer, on the middle the one of even code (E3M0's middle of 2^i, 2^(i+1) is 1.5 * 2^i);
 *   stochastic  with u = hi - lo (E2M1: 0.5 below 2, 1 below 4, 2 above; E3M0: 0.25 below 0.25, else lo), of which lo is a
 *               whole multiple: n = (trunc(y/u * 65536) + bits) >> 16 and the magnitude is n * u. y/u * 65536 is exact in
 *               float32 too (a power of two times y; an underflow truncates to the same 0), the sum fits 19 bits. Unbiased
 *               but for the truncation: at most 2^-16 u toward zero;
 *   ema         with e = ema / S, negated where x's sign bit is set: lo where e < (lo + hi) / 2, else (so for NaN) hi. */
unsigned tt_mx_code(tt_format format, tt_rounding rounding, float x, uint8_t scale, float ema, unsigned bits);

/* Counter-based randomness (used by every stochastic op). key = mix of (seed, step, tensor id): splitmix64 finalizer M,
 *   key = M(M(M(seed) + step) + tensor);   k0 = low, k1 = high 32 bits.
 * Element e of an op's OUTPUT matrix [R, Kp] (Kp = 32 * blocks, e = row * Kp + k) takes half (e & 1) (0: low 16 bits,
 * 1: high 16) of word h(e >> 1), 32-bit arithmetic:
 *   h = c ^ k0; h ^= h >> 16; h *= 0x7feb352d; h += k1; h ^= h >> 15; h *= 0x846ca68b; h ^= h >> 16
 * with c the low 32 bits of e >> 1. */
uint64_t tt_rng_key(int64_t seed, int64_t step, int64_t tensor);
unsigned tt_rng_bits(uint64_t key, uint64_t element); /* 16 bits */

/* Whole matrices, in the storage layout of TT_MX (types.h); those of format TT_INT4 are int4.h's. x is [rows, k] with
 * element (r, c) at x[r*row_stride + c*col_stride], strides in floats; ema likewise or NULL; rng_key used with
 * TT_STOCHASTIC. out: tt_type_bytes of the result. The maximum of a block with a NaN is NaN. */
void tt_mx_quantize(tt_qspec q, int64_t rows, int64_t k, const float *x, int64_t row_stride, int64_t col_stride,
                    const float *ema, uint64_t rng_key, uint8_t *out);
void tt_mx_dequantize(const tt_type *type, const uint8_t *mx, float *out); /* [rows, k] */
/* c[M,N] = a b^T + bias, a [M,K], b [N,K], bias [N] or NULL; the reference of NUMERICS 5: exact blocks, pairs, segments of
 * 4096. A pair is the exact sum of two exact block products rounded once, even where one of them alone is below or above
 * float32's range; an odd last block pairs with 0. A block with a scale of 255 gives NaN (any NaN: payload and sign mean
 * nothing). */
void tt_mx_gemm(const tt_type *ta, const uint8_t *a, const tt_type *tb, const uint8_t *b, const float *bias, float *c);
#endif
