/* Gradient rules of elementwise ops, movement and reductions, and the helpers all rules build with. */
#include "passes/grad.h"
#include <math.h>
#include <string.h>

tt_value tt_back_reshape(tt_grad_ctx *c, tt_value x, const tt_type *shape) {
  if (x == TT_NONE) return TT_NONE;
  const tt_type *t = tt_typ(c->g, x);
  if (t->rank == shape->rank && memcmp(t->dim, shape->dim, sizeof *t->dim * t->rank) == 0) return x;
  tt_attr attr = tt_attr_ints(c->g, TT_A_SHAPE, shape->rank, shape->dim);
  return tt_build1(c->b, TT_OP_RESHAPE, x, 1, &attr);
}

tt_value tt_back_matrix(tt_grad_ctx *c, tt_value x) {
  if (x == TT_NONE) return TT_NONE;
  const tt_type *t = tt_typ(c->g, x);
  tt_type matrix = tt_type_make(TT_F32, 2, (int64_t[]){tt_type_rows(t), tt_type_last(t)});
  return tt_back_reshape(c, x, &matrix);
}

tt_value tt_back_scale(tt_grad_ctx *c, tt_value x, double factor) {
  if (x == TT_NONE || factor == 1) return x;
  return tt_build2(c->b, TT_OP_MUL, x, tt_graph_const_f32(c->g, (float)factor), 0, NULL);
}

tt_value tt_back_sum_to(tt_grad_ctx *c, tt_value x, const tt_type *shape) {
  if (x == TT_NONE) return TT_NONE;
  tt_type from = *tt_typ(c->g, x);
  int lead = from.rank - shape->rank;
  int64_t axes[TT_MAX_RANK];
  int n = 0;
  for (int i = 0; i < from.rank; i++)
    if (i < lead || (shape->dim[i - lead] == 1 && from.dim[i] != 1)) axes[n++] = i;
  if (n) {
    tt_attr attrs[] = {tt_attr_ints(c->g, TT_A_AXES, n, axes), tt_attr_int(TT_A_KEEPDIMS, 0)};
    x = tt_build1(c->b, TT_OP_REDUCE_SUM, x, 2, attrs);
  }
  return tt_back_reshape(c, x, shape);
}

static tt_value mul(tt_grad_ctx *c, tt_value a, tt_value b) { return tt_build2(c->b, TT_OP_MUL, a, b, 0, NULL); }
static tt_value div_by(tt_grad_ctx *c, tt_value a, tt_value b) { return tt_build2(c->b, TT_OP_DIV, a, b, 0, NULL); }
static tt_value unary(tt_grad_ctx *c, tt_op op, tt_value a) { return tt_build1(c->b, op, a, 0, NULL); }

/* 1 - x */
static tt_value one_minus(tt_grad_ctx *c, tt_value x) {
  return tt_build2(c->b, TT_OP_SUB, tt_graph_const_f32(c->g, 1), x, 0, NULL);
}

bool tt_grad_none(tt_grad_ctx *c) {
  tt_loc loc = c->b->loc;
  const char *name = tt_ops[tt_nod(c->g, c->node)->op].name;
  if (!loc.op) loc.op = name;
  tt_error(c->b->diag, loc, "no gradient rule for op '%s', which lies between a parameter and the loss", name);
  return false;
}

bool tt_grad_neg(tt_grad_ctx *c) { return tt_back_add(c, 0, unary(c, TT_OP_NEG, c->dy[0])); }
bool tt_grad_exp(tt_grad_ctx *c) { return tt_back_add(c, 0, mul(c, c->dy[0], c->out[0])); }
bool tt_grad_log(tt_grad_ctx *c) { return tt_back_add(c, 0, div_by(c, c->dy[0], c->in[0])); }

/* d sqrt(x) = dy / (2 y) */
bool tt_grad_sqrt(tt_grad_ctx *c) { return tt_back_add(c, 0, div_by(c, tt_back_scale(c, c->dy[0], 0.5), c->out[0])); }

/* d (1/x) = -dy y^2 */
bool tt_grad_reciprocal(tt_grad_ctx *c) {
  tt_value y2 = mul(c, c->out[0], c->out[0]);
  return tt_back_add(c, 0, mul(c, unary(c, TT_OP_NEG, c->dy[0]), y2));
}

/* d erf(x) = dy 2/sqrt(pi) exp(-x^2) */
bool tt_grad_erf(tt_grad_ctx *c) {
  tt_value bell = unary(c, TT_OP_EXP, unary(c, TT_OP_NEG, mul(c, c->in[0], c->in[0])));
  return tt_back_add(c, 0, mul(c, tt_back_scale(c, c->dy[0], 2 / sqrt(acos(-1))), bell));
}

/* d tanh(x) = dy (1 - y^2) */
bool tt_grad_tanh(tt_grad_ctx *c) {
  return tt_back_add(c, 0, mul(c, c->dy[0], one_minus(c, mul(c, c->out[0], c->out[0]))));
}

/* d sigmoid(x) = dy y (1 - y) */
bool tt_grad_sigmoid(tt_grad_ctx *c) {
  return tt_back_add(c, 0, mul(c, mul(c, c->dy[0], c->out[0]), one_minus(c, c->out[0])));
}

bool tt_grad_gelu(tt_grad_ctx *c) {
  tt_attr attr = tt_attr_int(TT_A_TANH, tt_node_int(c->g, c->node, TT_A_TANH));
  return tt_back_add(c, 0, tt_build2(c->b, TT_OP_GELU_GRAD, c->dy[0], c->in[0], 1, &attr));
}

bool tt_grad_add(tt_grad_ctx *c) { return tt_back_add_broadcast(c, 0, c->dy[0]) && tt_back_add_broadcast(c, 1, c->dy[0]); }

bool tt_grad_sub(tt_grad_ctx *c) {
  TT_TRY(tt_back_add_broadcast(c, 0, c->dy[0]));
  return !tt_back_wants(c, 1) || tt_back_add_broadcast(c, 1, unary(c, TT_OP_NEG, c->dy[0]));
}

bool tt_grad_mul(tt_grad_ctx *c) {
  for (int i = 0; i < 2; i++)
    if (tt_back_wants(c, i)) TT_TRY(tt_back_add_broadcast(c, i, mul(c, c->dy[0], c->in[1 - i])));
  return true;
}

/* y = a / b: da = dy / b, db = -da y */
bool tt_grad_div(tt_grad_ctx *c) {
  tt_value da = div_by(c, c->dy[0], c->in[1]);
  TT_TRY(tt_back_add_broadcast(c, 0, da));
  return !tt_back_wants(c, 1) || tt_back_add_broadcast(c, 1, unary(c, TT_OP_NEG, mul(c, da, c->out[0])));
}

bool tt_grad_reshape(tt_grad_ctx *c) {
  tt_type type = *tt_typ(c->g, c->in[0]);
  return tt_back_add(c, 0, tt_back_reshape(c, c->dy[0], &type));
}

bool tt_grad_transpose(tt_grad_ctx *c) {
  const tt_attr *perm = tt_node_attr(c->g, c->node, TT_A_PERM);
  int64_t inverse[TT_MAX_RANK];
  for (int i = 0; i < perm->as.ints.n; i++) inverse[perm->as.ints.v[i]] = i;
  tt_attr attr = tt_attr_ints(c->g, TT_A_PERM, perm->as.ints.n, inverse);
  return tt_back_add(c, 0, tt_build1(c->b, TT_OP_TRANSPOSE, c->dy[0], 1, &attr));
}

bool tt_grad_slice(tt_grad_ctx *c) {
  tt_type type = *tt_typ(c->g, c->in[0]);
  tt_attr attrs[] = {*tt_node_attr(c->g, c->node, TT_A_STARTS), *tt_node_attr(c->g, c->node, TT_A_STEPS),
                     tt_attr_ints(c->g, TT_A_SHAPE, type.rank, type.dim)};
  return tt_back_add(c, 0, tt_build1(c->b, TT_OP_SLICE_GRAD, c->dy[0], 3, attrs));
}

/* Each operand's gradient is the slice of dy that it filled. */
bool tt_grad_concat(tt_grad_ctx *c) {
  tt_type type = *tt_typ(c->g, c->out[0]);
  int axis = (int)tt_node_int(c->g, c->node, TT_A_AXIS);
  if (axis < 0) axis += type.rank;
  int64_t starts[TT_MAX_RANK] = {0}, ends[TT_MAX_RANK], steps[TT_MAX_RANK];
  for (int i = 0; i < type.rank; i++) {
    ends[i] = type.dim[i];
    steps[i] = 1;
  }
  for (int i = 0; i < c->n_in; i++) {
    ends[axis] = starts[axis] + tt_typ(c->g, c->in[i])->dim[axis];
    tt_attr attrs[] = {tt_attr_ints(c->g, TT_A_STARTS, type.rank, starts), tt_attr_ints(c->g, TT_A_ENDS, type.rank, ends),
                       tt_attr_ints(c->g, TT_A_STEPS, type.rank, steps)};
    if (tt_back_wants(c, i)) TT_TRY(tt_back_add(c, i, tt_build1(c->b, TT_OP_SLICE, c->dy[0], 3, attrs)));
    starts[axis] = ends[axis];
  }
  return true;
}

bool tt_grad_expand(tt_grad_ctx *c) { return tt_back_add_broadcast(c, 0, c->dy[0]); }

/* dy stretched over the reduced axes, which come back as 1 first where the forward dropped them. */
static tt_value stretch(tt_grad_ctx *c) {
  tt_type full = *tt_typ(c->g, c->in[0]), kept = full;
  const tt_attr *axes = tt_node_attr(c->g, c->node, TT_A_AXES);
  for (int i = 0; i < axes->as.ints.n; i++) kept.dim[axes->as.ints.v[i]] = 1;
  tt_attr attr = tt_attr_ints(c->g, TT_A_SHAPE, full.rank, full.dim);
  return tt_build1(c->b, TT_OP_EXPAND, tt_back_reshape(c, c->dy[0], &kept), 1, &attr);
}

bool tt_grad_reduce_sum(tt_grad_ctx *c) { return tt_back_add(c, 0, stretch(c)); }

/* Scaled before it is stretched: the smaller tensor. */
bool tt_grad_reduce_mean(tt_grad_ctx *c) {
  double share = (double)tt_type_count(tt_typ(c->g, c->out[0])) / (double)tt_type_count(tt_typ(c->g, c->in[0]));
  tt_value dy = tt_back_scale(c, c->dy[0], share);
  tt_grad_ctx scaled = *c;
  scaled.dy = &dy;
  return tt_back_add(c, 0, stretch(&scaled));
}
