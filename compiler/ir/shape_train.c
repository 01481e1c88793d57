/* Shape rules of losses, metrics and the optimizer. */
#include "compiler/ir/shape.h"

/* logits f32[B,C] at operand i, labels i32[B] or f32[B,C] behind it */
static bool logits_and_labels(tt_shape_ctx *c, int i) {
  TT_TRY(tt_shape_f32(c, i, 2));
  const tt_type *logits = tt_shape_in(c, i), *labels = tt_shape_in(c, i + 1);
  if (logits->dim[1] < 1) return tt_shape_mismatch(c, i, "at least one class");
  bool hard = labels->dtype == TT_I32 && labels->rank == 1 && labels->dim[0] == logits->dim[0];
  long long batch = (long long)logits->dim[0], classes = (long long)logits->dim[1];
  if (hard || tt_type_equal(labels, logits)) return true;
  return tt_shape_mismatch(c, i + 1, "i32[%lld] or f32[%lld,%lld]", batch, batch, classes);
}

static bool smoothing_ok(tt_shape_ctx *c) {
  double s = tt_shape_float(c, TT_A_SMOOTHING);
  return (s >= 0 && s <= 1) || tt_shape_fail(c, "attribute 'smoothing' is %g, expected 0 to 1", s);
}

/* logits [B,C], labels -> losses [B] */
bool tt_shape_xent(tt_shape_ctx *c) {
  TT_TRY(logits_and_labels(c, 0) && smoothing_ok(c));
  c->out[0] = tt_type_make(TT_F32, 1, tt_shape_in(c, 0)->dim);
  return true;
}

/* dlosses [B], logits [B,C], labels -> dlogits [B,C] */
bool tt_shape_xent_grad(tt_shape_ctx *c) {
  TT_TRY(logits_and_labels(c, 1) && smoothing_ok(c));
  TT_TRY(tt_shape_f32_dims(c, 0, 1, tt_shape_in(c, 1)->dim));
  c->out[0] = *tt_shape_in(c, 1);
  return true;
}

/* logits [B,C], labels -> i32[B] */
bool tt_shape_correct(tt_shape_ctx *c) {
  TT_TRY(logits_and_labels(c, 0));
  c->out[0] = tt_type_make(TT_I32, 1, tt_shape_in(c, 0)->dim);
  return true;
}

/* n tensors of any shape -> [n] */
bool tt_shape_sumsq(tt_shape_ctx *c) {
  for (int i = 0; i < c->n_in; i++) {
    if (tt_shape_in(c, i)->dtype != TT_F32) return tt_shape_mismatch(c, i, "f32");
  }
  c->out[0] = tt_type_make(TT_F32, 1, (int64_t[]){c->n_in});
  return true;
}

/* sumsq [n] -> coef [], norm [] */
bool tt_shape_clip_coef(tt_shape_ctx *c) {
  TT_TRY(tt_shape_f32(c, 0, 1));
  c->out[0] = c->out[1] = tt_type_scalar(TT_F32);
  return true;
}

/* Tensors of one shape, the first n_out of which are written, then scalars. */
static bool tensors_and_scalars(tt_shape_ctx *c, int n_tensors, int n_out) {
  if (tt_shape_in(c, 0)->dtype != TT_F32) return tt_shape_mismatch(c, 0, "f32");
  for (int i = 1; i < n_tensors; i++) TT_TRY(tt_shape_same(c, i, 0));
  for (int i = n_tensors; i < c->n_in; i++) TT_TRY(tt_shape_f32_dims(c, i, 0, NULL));
  for (int i = 0; i < n_out; i++) c->out[i] = *tt_shape_in(c, 0);
  return true;
}

/* w, m, v, g, coef [], lr [], bc1 [], bc2 [] -> w, m, v */
bool tt_shape_adamw(tt_shape_ctx *c) { return tensors_and_scalars(c, 4, 3); }

/* w, m, v, ema, g, coef [], lr [], bc1 [], bc2 [] -> w, m, v, ema */
bool tt_shape_adamw_ema(tt_shape_ctx *c) { return tensors_and_scalars(c, 5, 4); }

/* w, m, v, sum, count, period, g, coef [], lr [], bc1 [], bc2 [] -> w, m, v, sum, count */
bool tt_shape_adamw_ramp(tt_shape_ctx *c) { return tensors_and_scalars(c, 7, 5); }

/* w, last, mean, rate, mark, q -> w, last, mean, rate, mark */
bool tt_shape_freeze(tt_shape_ctx *c) { return tensors_and_scalars(c, 6, 5); }
