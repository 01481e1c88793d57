/* Shape rules of elementwise ops: NumPy broadcasting, one element type for all number operands. */
#include "compiler/ir/shape.h"

/* Also softmax, which works along the last dimension and so needs one, and floating point. */
bool tt_shape_unary(tt_shape_ctx *c) {
  TT_TRY(tt_shape_numeric(c, 0));
  const tt_type *x = tt_shape_in(c, 0);
  if (c->op == TT_OP_SOFTMAX && (x->rank == 0 || (x->dtype != TT_F32 && x->dtype != TT_F64)))
    return tt_shape_mismatch(c, 0, "f32 with at least one dimension");
  c->out[0] = *x;
  return true;
}

bool tt_shape_logical(tt_shape_ctx *c) {
  const tt_type *x = tt_shape_in(c, 0);
  if (c->op == TT_OP_NOT && x->dtype != TT_BOOL) return tt_shape_mismatch(c, 0, "bool");
  if (c->op != TT_OP_NOT) TT_TRY(tt_shape_numeric(c, 0));
  c->out[0] = *x;
  c->out[0].dtype = TT_BOOL;
  return true;
}

bool tt_shape_cast(tt_shape_ctx *c) {
  TT_TRY(tt_shape_dense(c, 0));
  const tt_attr *to = tt_shape_attr(c, TT_A_TO);
  if (!to) return tt_shape_fail(c, "attribute 'to' is missing");
  if (to->as.i < 0 || to->as.i >= TT_MX) return tt_shape_fail(c, "attribute 'to' must be f32, f64, i32, i64 or bool");
  c->out[0] = *tt_shape_in(c, 0);
  c->out[0].dtype = (uint8_t)to->as.i;
  return true;
}

/* out = broadcast of operands i and i+1, which have one element type. */
static bool broadcast(tt_shape_ctx *c, int i) {
  char a_text[TT_TYPE_TEXT], b_text[TT_TYPE_TEXT];
  const tt_type *a = tt_shape_in(c, i), *b = tt_shape_in(c, i + 1);
  if (a->dtype != b->dtype)
    return tt_shape_mismatch(c, i + 1, "element type %s as input %d", tt_dtype_name((tt_dtype)a->dtype), i);
  if (tt_broadcast(a, b, &c->out[0])) return true;
  return tt_shape_fail(c, "inputs %d and %d are %s and %s, whose shapes do not broadcast", i, i + 1,
                       tt_type_print(a, a_text, sizeof a_text), tt_type_print(b, b_text, sizeof b_text));
}

/* gelu_grad and softmax_grad read both operands at the same place: no broadcasting there. */
bool tt_shape_binary(tt_shape_ctx *c) {
  TT_TRY(tt_shape_numeric(c, 0) && tt_shape_numeric(c, 1));
  if (c->op != TT_OP_GELU_GRAD && c->op != TT_OP_SOFTMAX_GRAD) return broadcast(c, 0);
  TT_TRY(tt_shape_same(c, 1, 0));
  if (c->op == TT_OP_SOFTMAX_GRAD) TT_TRY(tt_shape_f32(c, 0, -1));
  c->out[0] = *tt_shape_in(c, 0);
  return true;
}

bool tt_shape_compare(tt_shape_ctx *c) {
  for (int i = 0; i < 2; i++) {
    bool is_bool = tt_shape_in(c, i)->dtype == TT_BOOL;
    if ((c->op == TT_OP_AND || c->op == TT_OP_OR) && !is_bool) return tt_shape_mismatch(c, i, "bool");
    if (c->op == TT_OP_LESS || c->op == TT_OP_GREATER) TT_TRY(tt_shape_numeric(c, i));
    TT_TRY(tt_shape_dense(c, i));
  }
  TT_TRY(broadcast(c, 0));
  c->out[0].dtype = TT_BOOL;
  return true;
}

bool tt_shape_where(tt_shape_ctx *c) {
  char cond_text[TT_TYPE_TEXT], text[TT_TYPE_TEXT];
  const tt_type *cond = tt_shape_in(c, 0);
  if (cond->dtype != TT_BOOL) return tt_shape_mismatch(c, 0, "bool");
  TT_TRY(tt_shape_dense(c, 1) && tt_shape_dense(c, 2) && broadcast(c, 1));
  tt_type both = c->out[0];
  if (tt_broadcast(&both, cond, &c->out[0])) return true;
  return tt_shape_fail(c, "input 0 is %s, which does not broadcast with %s of inputs 1 and 2",
                       tt_type_print(cond, cond_text, sizeof cond_text), tt_type_print(&both, text, sizeof text));
}
