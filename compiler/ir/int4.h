/* Scalar per-tensor INT4 arithmetic (NUMERICS 9), the definition that every generated kernel equals bit for bit. Matrices
 * are in the storage layout of TT_MX with format TT_INT4 (types.h). */
#ifndef TT_INT4_H
#define TT_INT4_H
#include <stdint.h>
#include "compiler/ir/qspec.h"

/* Elements along the reduction whose products sum to less than 2^31 whatever the codes, blocks filled up. */
enum { TT_INT4_MAX_K = (1 << 25) - TT_MX_BLOCK };

/* -8..7 from a 4-bit code in two's complement; no quantizer makes -8. */
int tt_int4_value(unsigned code);
/* max |x| of a tensor / 7 rounded to float32, at least 2^-126; NaN where max is NaN or Inf. */
float tt_int4_scale(float max);
/* Code of x. `bits` (16 random bits) is read with TT_STOCHASTIC. A scale of NaN makes every code 0. */
unsigned tt_int4_code(tt_rounding rounding, float x, float scale, unsigned bits);

/* As the functions of mx.h with the same ends: `type` is the operand's, strides are in floats, a product is
 * c[M,N] = a[M,K] b[N,K]^T + bias[N] or NULL, of K <= TT_INT4_MAX_K: exact sums in int32, then
 * (float)sum * (scale of a * scale of b) + bias, each step rounded to float32. */
void tt_int4_quantize(tt_rounding rounding, int64_t rows, int64_t k, const float *x, int64_t row_stride, int64_t col_stride,
                      uint64_t rng_key, uint8_t *out);
void tt_int4_dequantize(const tt_type *type, const uint8_t *q, float *out); /* [rows, k] */
void tt_int4_gemm(const tt_type *ta, const uint8_t *a, const tt_type *tb, const uint8_t *b, const float *bias, float *c);
void tt_int4_transpose(const tt_type *type, const uint8_t *q, uint8_t *out); /* [rows, k] -> [k, rows] */
void tt_int4_colsum(const tt_type *type, const uint8_t *q, float *out);      /* [k] */
float tt_int4_scale_of(const tt_type *type, const uint8_t *q);
#endif
