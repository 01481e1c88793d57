/* Shape rules of MX arithmetic. mx[R,K] is R rows of K packed elements, blocks along K. */
#include "compiler/ir/int4.h"
#include "compiler/ir/shape.h"

/* The quantizer and its second operand: randomness, EMA weights or nothing, as the rounding says. */
static bool quantizer(tt_shape_ctx *c, bool ema_allowed, tt_qspec *q) {
  const tt_attr *a = tt_shape_attr(c, TT_A_Q);
  if (!a || !a->as.q.on) return tt_shape_fail(c, "attribute 'q' is missing or off: nothing says how to quantize");
  *q = a->as.q;
  const char *fault = tt_qspec_fault(*q);
  if (fault) return tt_shape_fail(c, "%s", fault);
  int64_t from = tt_shape_int(c, TT_A_FROM);
  if (from < 0 || (from > 0 && q->rounding != TT_EMA))
    return tt_shape_fail(c, "attribute 'from' is %lld: it is the step in which ema rounding begins", (long long)from);
  if (q->rounding == TT_NEAREST) {
    return c->n_in == 1 || tt_shape_fail(c, "rounding to nearest has a second input, expected none");
  }
  if (q->rounding == TT_EMA && !ema_allowed)
    return tt_shape_fail(c, "ema rounding needs latent weights, which an mx matrix has not");
  if (c->n_in < 2)
    return tt_shape_fail(c, "%s rounding needs a second input", q->rounding == TT_EMA ? "ema" : "stochastic");
  if (q->rounding == TT_EMA) TT_TRY(tt_shape_same(c, 1, 0));
  int n = from > 0 ? 3 : 2;
  if (c->n_in != n)
    return tt_shape_fail(c, "%d inputs, expected %d: only ema rounding with 'from' has a third, rng", c->n_in, n);
  if (q->rounding == TT_EMA && from == 0) return true;
  const tt_type *rng = tt_shape_in(c, n - 1);
  if (rng->dtype != TT_I64 || rng->rank != 1 || rng->dim[0] != 2) return tt_shape_mismatch(c, n - 1, "rng i64[2]");
  if (q->rounding == TT_EMA) return true;
  return tt_shape_attr(c, TT_A_TENSOR) ||
         tt_shape_fail(c, "stochastic rounding needs attribute 'tensor', which keys its random bits");
}

/* x [..,K] -> mx[rows,K]; {transpose} 1: x [..,C] -> mx[C,rows] */
bool tt_shape_mx_quantize(tt_shape_ctx *c) {
  tt_qspec q;
  TT_TRY(tt_shape_f32(c, 0, -1) && tt_shape_flag(c, TT_A_TRANSPOSED) && quantizer(c, true, &q));
  const tt_type *x = tt_shape_in(c, 0);
  int64_t rows = tt_type_rows(x), last = tt_type_last(x);
  bool transposed = tt_shape_int(c, TT_A_TRANSPOSED) == 1;
  c->out[0] = tt_type_mx((tt_format)q.format, transposed ? last : rows, transposed ? rows : last);
  return true;
}

/* a mx[R,K] -> mx[K,R] */
bool tt_shape_mx_requantize(tt_shape_ctx *c) {
  tt_qspec q;
  TT_TRY(tt_shape_is_mx(c, 0) && quantizer(c, false, &q));
  const tt_type *a = tt_shape_in(c, 0);
  if ((a->format == TT_INT4) != (q.format == TT_INT4))
    return tt_shape_fail(c, "int4 and mx matrices cannot be requantized into one another");
  c->out[0] = tt_type_mx((tt_format)q.format, a->dim[1], a->dim[0]);
  return true;
}

bool tt_shape_mx_dequantize(tt_shape_ctx *c) {
  TT_TRY(tt_shape_is_mx(c, 0));
  c->out[0] = tt_type_make(TT_F32, 2, tt_shape_in(c, 0)->dim);
  return true;
}

/* a mx[M,K], b mx[N,K] (either may still be f32 before lower_mx_mixed), bias [N]? -> f32[M,N] */
bool tt_shape_mx_gemm(tt_shape_ctx *c) {
  for (int i = 0; i < 2; i++) {
    const tt_type *t = tt_shape_in(c, i);
    if (t->dtype != TT_MX && (t->dtype != TT_F32 || t->rank != 2)) return tt_shape_mismatch(c, i, "an mx or f32 matrix");
  }
  const tt_type *a = tt_shape_in(c, 0), *b = tt_shape_in(c, 1);
  if (a->dtype == TT_MX && b->dtype == TT_MX && (a->format == TT_INT4) != (b->format == TT_INT4))
    return tt_shape_mismatch(c, 1, a->format == TT_INT4 ? "int4, as the first operand" : "mx, as the first operand");
  if (a->format == TT_INT4 && a->dim[1] > TT_INT4_MAX_K)
    return tt_shape_fail(c, "it reduces over %lld elements, but sums of INT4 products are exact to %d",
                         (long long)a->dim[1], TT_INT4_MAX_K);
  if (a->dim[1] != b->dim[1]) return tt_shape_mismatch(c, 1, "[*,%lld]", (long long)a->dim[1]);
  if (a->dim[0] == 0 || a->dim[1] == 0 || b->dim[0] == 0)
    return tt_shape_fail(c, "a product of %lld by %lld rows of %lld elements, expected at least 1 of each",
                         (long long)a->dim[0], (long long)b->dim[0], (long long)a->dim[1]);
  if (c->n_in == 3) TT_TRY(tt_shape_f32_dims(c, 2, 1, b->dim));
  c->out[0] = tt_type_make(TT_F32, 2, (int64_t[]){a->dim[0], b->dim[0]});
  return true;
}

/* mx[R,K] -> f32[K] */
bool tt_shape_mx_colsum(tt_shape_ctx *c) {
  TT_TRY(tt_shape_is_mx(c, 0));
  c->out[0] = tt_type_make(TT_F32, 1, &tt_shape_in(c, 0)->dim[1]);
  return true;
}
