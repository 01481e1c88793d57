/* Rules of MX arithmetic. Operands become float32 first, then everything is the exact arithmetic of mx.h; the one float
 * result without an order of its own, colsum, is summed in double. */
#include "compiler/ir/eval_rules.h"
#include "compiler/ir/int4.h"
#include "compiler/ir/mx.h"

static float *to_f32(tt_arena *arena, const tt_tensor *t) {
  int64_t n = tt_type_count(&t->type);
  float *f = TT_NEW_N(arena, float, n);
  for (int64_t i = 0; i < n; i++) f[i] = (float)t->d[i];
  return f;
}

static void from_f32(tt_tensor *t, const float *f) {
  int64_t n = tt_type_count(&t->type);
  for (int64_t i = 0; i < n; i++) t->d[i] = (double)f[i];
}

static float *dequantized(tt_arena *arena, const tt_tensor *t) {
  float *f = TT_NEW_N(arena, float, tt_type_count(&t->type));
  tt_mx_dequantize(&t->type, t->mx, f);
  return f;
}

/* x [rows, cols] into out: mx[rows, cols], or transposed mx[cols, rows]. Operand 1 is rng or ema as the rounding
 * says; where ema rounding begins at a later step, operand 2 is rng. */
static void quantize_into(tt_eval_ctx *c, const float *x, int64_t rows, int64_t cols, bool transposed) {
  tt_qspec q = tt_node_qspec(c->g, c->node, TT_A_Q);
  const int64_t from = tt_eval_int(c, TT_A_FROM);
  TT_ASSERT(c->n_in == (q.rounding == TT_NEAREST ? 1 : from > 0 ? 3 : 2));
  if (from > 0 && (int64_t)c->in[2].d[1] < from) q.rounding = TT_NEAREST;
  uint64_t key = 0;
  const float *ema = NULL;
  if (q.rounding == TT_EMA) ema = to_f32(c->arena, &c->in[1]);
  if (q.rounding == TT_STOCHASTIC)
    key = tt_rng_key((int64_t)c->in[1].d[0], (int64_t)c->in[1].d[1], tt_eval_int(c, TT_A_TENSOR));
  if (transposed)
    tt_mx_quantize(q, cols, rows, x, 1, cols, ema, key, c->out[0].mx);
  else
    tt_mx_quantize(q, rows, cols, x, cols, 1, ema, key, c->out[0].mx);
}

void tt_eval_mx_quantize(tt_eval_ctx *c) {
  const tt_type *type = &c->in[0].type;
  bool transposed = tt_eval_int(c, TT_A_TRANSPOSED) != 0;
  quantize_into(c, to_f32(c->arena, &c->in[0]), tt_type_rows(type), tt_type_last(type), transposed);
}

/* mx[R,K] -> mx[K,R] */
void tt_eval_mx_requantize(tt_eval_ctx *c) {
  const tt_type *type = &c->in[0].type;
  if (type->format == TT_INT4)
    tt_int4_transpose(type, c->in[0].mx, c->out[0].mx);
  else
    quantize_into(c, dequantized(c->arena, &c->in[0]), type->dim[0], type->dim[1], true);
}

void tt_eval_mx_dequantize(tt_eval_ctx *c) { from_f32(&c->out[0], dequantized(c->arena, &c->in[0])); }

/* An operand that is no MX matrix yet makes the product an ordinary one of the values, in double. */
static void mixed_gemm(tt_eval_ctx *c) {
  tt_tensor x[2];
  for (int i = 0; i < 2; i++) {
    x[i] = c->in[i];
    if (x[i].type.dtype != TT_MX) continue;
    x[i] = tt_tensor_new(c->arena, tt_type_make(TT_F32, 2, x[i].type.dim));
    from_f32(&x[i], dequantized(c->arena, &c->in[i]));
  }
  int64_t M = x[0].type.dim[0], N = x[1].type.dim[0], K = x[0].type.dim[1];
  for (int64_t i = 0; i < M * N; i++) {
    double sum = c->n_in == 3 ? c->in[2].d[i % N] : 0;
    for (int64_t k = 0; k < K; k++) sum += x[0].d[i / N * K + k] * x[1].d[i % N * K + k];
    c->out[0].d[i] = sum;
  }
}

void tt_eval_mx_gemm(tt_eval_ctx *c) {
  const tt_tensor *a = &c->in[0], *b = &c->in[1];
  if (a->type.dtype != TT_MX || b->type.dtype != TT_MX) {
    mixed_gemm(c);
    return;
  }
  const float *bias = c->n_in == 3 ? to_f32(c->arena, &c->in[2]) : NULL;
  float *y = TT_NEW_N(c->arena, float, tt_type_count(&c->out[0].type));
  tt_mx_gemm(&a->type, a->mx, &b->type, b->mx, bias, y);
  from_f32(&c->out[0], y);
}

void tt_eval_column_sums(tt_arena *arena, const tt_tensor *mx, tt_tensor *sums) {
  const float *x = dequantized(arena, mx);
  int64_t n = tt_type_count(&mx->type), K = mx->type.dim[1];
  for (int64_t i = 0; i < n; i++) sums->d[i % K] += (double)x[i];
}

void tt_eval_mx_colsum(tt_eval_ctx *c) {
  const tt_type *type = &c->in[0].type;
  if (type->format != TT_INT4) {
    tt_eval_column_sums(c->arena, &c->in[0], &c->out[0]);
    return;
  }
  float *sums = TT_NEW_N(c->arena, float, type->dim[1]);
  tt_int4_colsum(type, c->in[0].mx, sums);
  from_f32(&c->out[0], sums);
}

void tt_eval_quantized(tt_arena *arena, tt_qspec q, const tt_tensor *x, bool transposed, const tt_tensor *rng, int64_t tensor,
                       tt_tensor *out) {
  int64_t rows = tt_type_rows(&x->type), cols = tt_type_last(&x->type);
  uint64_t key = q.rounding == TT_STOCHASTIC ? tt_rng_key((int64_t)rng->d[0], (int64_t)rng->d[1], tensor) : 0;
  const float *values = to_f32(arena, x);
  if (transposed)
    tt_mx_quantize(q, cols, rows, values, 1, cols, NULL, key, out->mx);
  else
    tt_mx_quantize(q, rows, cols, values, cols, 1, NULL, key, out->mx);
}
