/* Scalar per-tensor INT4 arithmetic; see NUMERICS 9. Every generated kernel equals these loops bit for bit. */
#include "compiler/ir/int4.h"
#include <math.h>
#include <string.h>
#include "compiler/ir/mx.h"
#include "compiler/support/diag.h"

enum { TOP = 7 };

int tt_int4_value(unsigned code) { return code & 8 ? (int)(code & 7) - 8 : (int)(code & 7); }

float tt_int4_scale(float max) {
  const uint32_t quiet = 0x7fc00000;
  float scale;
  memcpy(&scale, &quiet, sizeof scale);
  if (!isfinite(max)) return scale;
  scale = max / TOP;
  return scale < 0x1p-126f ? 0x1p-126f : scale;
}

unsigned tt_int4_code(tt_rounding rounding, float x, float scale, unsigned bits) {
  if (isnan(scale)) return 0;
  float y = fabsf(x) / scale;
  if (!(y <= TOP)) y = TOP; /* max / fl(max / 7) may be the float above 7 */
  int n = (int)y;
  float rest = y - (float)n;
  if (rounding == TT_STOCHASTIC)
    n = (int)(((unsigned)(y * 65536) + bits) >> 16);
  else if (rest > 0.5f || (rest == 0.5f && n % 2 == 1))
    n++;
  return (unsigned)(x < 0 ? -n : n) & 15;
}

static unsigned code_at(const uint8_t *q, int64_t k, int64_t row, int64_t col) {
  int64_t element = row * tt_mx_blocks(k) * TT_MX_BLOCK + col;
  return q[element / 2] >> 4 * (element & 1) & 15;
}

/* Into storage that is zero. */
static void put_code(uint8_t *q, int64_t k, int64_t row, int64_t col, unsigned code) {
  int64_t element = row * tt_mx_blocks(k) * TT_MX_BLOCK + col;
  q[element / 2] |= (uint8_t)(code << 4 * (element & 1));
}

float tt_int4_scale_of(const tt_type *type, const uint8_t *q) {
  float scale;
  memcpy(&scale, q + tt_mx_scale_offset(type), sizeof scale);
  return scale;
}

void tt_int4_quantize(tt_rounding rounding, int64_t rows, int64_t k, const float *x, int64_t row_stride, int64_t col_stride,
                      uint64_t rng_key, uint8_t *out) {
  TT_ASSERT(rounding != TT_EMA);
  tt_type type = tt_type_mx(TT_INT4, rows, k);
  float max = 0;
  memset(out, 0, tt_type_bytes(&type));
  for (int64_t i = 0; i < rows * k; i++) {
    float a = fabsf(x[i / k * row_stride + i % k * col_stride]);
    if (isnan(a) || a > max) max = a;
    if (isnan(max)) break;
  }
  const float scale = tt_int4_scale(max);
  memcpy(out + tt_mx_scale_offset(&type), &scale, sizeof scale);
  for (int64_t i = 0; i < rows * k; i++) {
    int64_t row = i / k, col = i % k, element = row * tt_mx_blocks(k) * TT_MX_BLOCK + col;
    unsigned bits = rounding == TT_STOCHASTIC ? tt_rng_bits(rng_key, (uint64_t)element) : 0;
    put_code(out, k, row, col, tt_int4_code(rounding, x[row * row_stride + col * col_stride], scale, bits));
  }
}

void tt_int4_dequantize(const tt_type *type, const uint8_t *q, float *out) {
  int64_t rows = type->dim[0], k = type->dim[1];
  float scale = tt_int4_scale_of(type, q);
  for (int64_t i = 0; i < rows * k; i++) out[i] = (float)tt_int4_value(code_at(q, k, i / k, i % k)) * scale;
}

void tt_int4_gemm(const tt_type *ta, const uint8_t *a, const tt_type *tb, const uint8_t *b, const float *bias, float *c) {
  int64_t M = ta->dim[0], N = tb->dim[0], K = ta->dim[1];
  TT_ASSERT(tb->dim[1] == K && K <= TT_INT4_MAX_K);
  float scale = tt_int4_scale_of(ta, a) * tt_int4_scale_of(tb, b);
  for (int64_t i = 0; i < M * N; i++) {
    int32_t sum = 0;
    for (int64_t k = 0; k < K; k++) sum += tt_int4_value(code_at(a, K, i / N, k)) * tt_int4_value(code_at(b, K, i % N, k));
    float product = (float)sum * scale;
    c[i] = bias ? product + bias[i % N] : product;
  }
}

void tt_int4_transpose(const tt_type *type, const uint8_t *q, uint8_t *out) {
  int64_t rows = type->dim[0], k = type->dim[1];
  tt_type turned = tt_type_mx(TT_INT4, k, rows);
  memset(out, 0, tt_type_bytes(&turned));
  for (int64_t i = 0; i < rows * k; i++) put_code(out, rows, i % k, i / k, code_at(q, k, i / k, i % k));
  memcpy(out + tt_mx_scale_offset(&turned), q + tt_mx_scale_offset(type), sizeof(float));
}

void tt_int4_colsum(const tt_type *type, const uint8_t *q, float *out) {
  int64_t rows = type->dim[0], k = type->dim[1];
  for (int64_t col = 0; col < k; col++) {
    int32_t sum = 0;
    for (int64_t row = 0; row < rows; row++) sum += tt_int4_value(code_at(q, k, row, col));
    out[col] = (float)sum * tt_int4_scale_of(type, q);
  }
}
