/* Shape rules of the instruments. */
#include "compiler/ir/shape.h"

/* (x...) -> f32[n,bins] */
bool tt_shape_histogram(tt_shape_ctx *c) {
  int64_t bins = tt_shape_int(c, TT_A_BINS);
  double low = tt_shape_float(c, TT_A_LOW), high = tt_shape_float(c, TT_A_HIGH);
  for (int i = 0; i < c->n_in; i++)
    if (tt_shape_in(c, i)->dtype != TT_F32) return tt_shape_mismatch(c, i, "f32");
  if (bins < 1 || bins > 4096) return tt_shape_fail(c, "attribute 'bins' is %lld, expected 1 to 4096", (long long)bins);
  if (!(low < high)) return tt_shape_fail(c, "attributes 'low' and 'high' are %g and %g, expected low < high", low, high);
  c->out[0] = tt_type_make(TT_F32, 2, (int64_t[]){c->n_in, bins});
  return true;
}

/* (x...) -> i32[n] */
bool tt_shape_arg_max(tt_shape_ctx *c) {
  for (int i = 0; i < c->n_in; i++) {
    const tt_type *t = tt_shape_in(c, i);
    int64_t n = tt_type_count(t);
    if (t->dtype != TT_F32 || n < 1 || n > INT32_MAX) return tt_shape_mismatch(c, i, "f32 of 1 to 2^31 - 1 elements");
  }
  c->out[0] = tt_type_make(TT_I32, 1, (int64_t[]){c->n_in});
  return true;
}

/* x [..,K] -> the same */
bool tt_shape_mx_confidence(tt_shape_ctx *c) {
  const tt_attr *q = tt_shape_attr(c, TT_A_Q);
  if (!q || !q->as.q.on) return tt_shape_fail(c, "attribute 'q' is missing or off: nothing says which grid");
  const char *fault = tt_qspec_fault(q->as.q);
  if (fault) return tt_shape_fail(c, "%s", fault);
  TT_TRY(tt_shape_f32(c, 0, -1));
  c->out[0] = *tt_shape_in(c, 0);
  return true;
}

/* (mx...) -> f32[n,8], f32[n,256] */
bool tt_shape_mx_census(tt_shape_ctx *c) {
  for (int i = 0; i < c->n_in; i++) TT_TRY(tt_shape_is_mx(c, i));
  c->out[0] = tt_type_make(TT_F32, 2, (int64_t[]){c->n_in, 8});
  c->out[1] = tt_type_make(TT_F32, 2, (int64_t[]){c->n_in, 256});
  return true;
}
