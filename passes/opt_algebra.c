/* Identities that hold for every operand, one node at a time.
 *
 *   x * 1, x / 1, x + 0, x - 0, pow(x, 1)           x
 *   cast, expand, slice to x's own type, concat(x)  x
 *   where(constant c, a, b)                         a or b
 *   x / c                                           x * (1/c)              f32: one rounding instead of another
 *   (x * c1) * c2                                   x * (c1 c2)            where the inner product has no other use
 *   pow(x, 2), pow(x, 3), pow(x, 0.5)               x*x, x*x*x, sqrt(x)    which have kernels and gradients
 *   gather(x, constant index)                       slice, then reshape
 *   matmul(a, transpose(b))                         matmul(a, b) {trans_b} where the last two dimensions are swapped
 *
 * c stands for a constant whose elements are all one number; a rule applies only where the result keeps its type, so one
 * that also broadcasts stays. Reshapes and transposes among themselves are opt_views' matter. */
#include <math.h>
#include "passes/match.h"

/* The operand that n's output equals, or TT_NONE. */
static tt_value neutral(const tt_graph *g, const tt_node_data *d) {
  double c;
  tt_value x;
  switch (d->op) {
  case TT_OP_ADD: return tt_match_with_scalar(g, d->out[0], TT_OP_ADD, &x, &c) && c == 0 ? x : TT_NONE;
  case TT_OP_MUL: return tt_match_with_scalar(g, d->out[0], TT_OP_MUL, &x, &c) && c == 1 ? x : TT_NONE;
  case TT_OP_SUB: return tt_const_splat(g, d->in[1], &c) && c == 0 ? d->in[0] : TT_NONE;
  case TT_OP_DIV:
  case TT_OP_POW: return tt_const_splat(g, d->in[1], &c) && c == 1 ? d->in[0] : TT_NONE;
  case TT_OP_WHERE: return tt_const_splat(g, d->in[0], &c) ? d->in[c != 0 ? 1 : 2] : TT_NONE;
  case TT_OP_CAST:
  case TT_OP_EXPAND:
  case TT_OP_SLICE: return d->in[0];
  case TT_OP_CONCAT: return d->n_in == 1 ? d->in[0] : TT_NONE;
  default: return TT_NONE;
  }
}

/* x * factor in place of n. */
static bool scale_by(tt_match *m, tt_node n, tt_value x, double factor) {
  const float f = (float)factor;
  if (!isfinite(f) || f == 0) return false;
  tt_builder b = tt_match_builder(m, n);
  return tt_match_replace(m, n, tt_build2(&b, TT_OP_MUL, x, tt_graph_const_f32(m->g, f), 0, NULL));
}

static bool merge_factors(tt_match *m, tt_node n) {
  const tt_node_data *d = tt_nod(m->g, n);
  tt_value x, y;
  double outer, inner;
  if (tt_typ(m->g, d->out[0])->dtype != TT_F32 || !tt_match_scaled(m->g, d->out[0], &x, &outer)) return false;
  if (d->op == TT_OP_DIV) return scale_by(m, n, x, outer);
  if (!tt_match_sole(m, x) || !tt_match_scaled(m->g, x, &y, &inner)) return false;
  return scale_by(m, n, y, outer * inner);
}

static int64_t const_index(const tt_graph *g, tt_value v) {
  const void *data = tt_const_data(g, v);
  return tt_typ(g, v)->dtype == TT_I64 ? *(const int64_t *)data : *(const int32_t *)data;
}

static bool slice_for_gather(tt_match *m, tt_node n) {
  tt_graph *g = m->g;
  const tt_node_data *d = tt_nod(g, n);
  const tt_type x = *tt_typ(g, d->in[0]), y = *tt_typ(g, d->out[0]);
  if (!tt_const_data(g, d->in[1]) || tt_type_count(tt_typ(g, d->in[1])) != 1) return false;
  const int64_t axis = tt_node_int(g, n, TT_A_AXIS), index = const_index(g, d->in[1]);
  int64_t starts[TT_MAX_RANK] = {0}, ends[TT_MAX_RANK], steps[TT_MAX_RANK];
  for (int i = 0; i < x.rank; i++) ends[i] = x.dim[i], steps[i] = 1;
  const int64_t at = axis < 0 ? axis + x.rank : axis;
  starts[at] = index < 0 ? index + x.dim[at] : index;
  ends[at] = starts[at] + 1;
  const tt_attr attrs[] = {tt_attr_ints(g, TT_A_STARTS, x.rank, starts), tt_attr_ints(g, TT_A_ENDS, x.rank, ends),
                           tt_attr_ints(g, TT_A_STEPS, x.rank, steps)};
  tt_builder b = tt_match_builder(m, n);
  return tt_match_replace(m, n, tt_match_reshape(&b, tt_build1(&b, TT_OP_SLICE, d->in[0], 3, attrs), &y));
}

/* The operand of a transpose that swaps the last two dimensions only, or TT_NONE. */
static tt_value swapped_last(const tt_graph *g, tt_value v) {
  const tt_node n = tt_def_op(g, v, TT_OP_TRANSPOSE);
  if (n == TT_NONE) return TT_NONE;
  const int rank = tt_typ(g, v)->rank;
  const int64_t *perm = tt_node_attr(g, n, TT_A_PERM)->as.ints.v;
  for (int i = 0; i + 2 < rank; i++)
    if (perm[i] != i) return TT_NONE;
  return rank >= 2 && perm[rank - 1] == rank - 2 ? tt_nod(g, n)->in[0] : TT_NONE;
}

/* Takes off all such transposes; *flag changes with each. */
static tt_value unswap(const tt_graph *g, tt_value v, int64_t *flag) {
  for (tt_value x; (x = swapped_last(g, v)) != TT_NONE; v = x) *flag ^= 1;
  return v;
}

static bool transposed_operands(tt_match *m, tt_node n) {
  tt_graph *g = m->g;
  const tt_value *in = tt_nod(g, n)->in;
  int64_t trans_a = tt_node_int(g, n, TT_A_TRANS_A), trans_b = tt_node_int(g, n, TT_A_TRANS_B);
  const tt_value a = unswap(g, in[0], &trans_a), b = unswap(g, in[1], &trans_b);
  if (a == in[0] && b == in[1]) return false;
  const tt_attr flags[] = {tt_attr_int(TT_A_TRANS_A, trans_a), tt_attr_int(TT_A_TRANS_B, trans_b)};
  tt_builder builder = tt_match_builder(m, n);
  return tt_match_replace(m, n, tt_build2(&builder, TT_OP_MATMUL, a, b, 2, flags));
}

static bool power(tt_match *m, tt_node n) {
  const tt_value x = tt_nod(m->g, n)->in[0];
  double c;
  if (!tt_const_splat(m->g, tt_nod(m->g, n)->in[1], &c) || (c != 2 && c != 3 && c != 0.5)) return false;
  if (!tt_match_same_type(m->g, x, tt_nod(m->g, n)->out[0])) return false;
  tt_builder b = tt_match_builder(m, n);
  if (c == 0.5) return tt_match_replace(m, n, tt_build1(&b, TT_OP_SQRT, x, 0, NULL));
  tt_value y = tt_build2(&b, TT_OP_MUL, x, x, 0, NULL);
  if (c == 3) y = tt_build2(&b, TT_OP_MUL, y, x, 0, NULL);
  return tt_match_replace(m, n, y);
}

static bool simplify(tt_match *m, tt_node n) {
  const tt_node_data *d = tt_nod(m->g, n);
  if (d->n_out != 1) return false;
  const tt_value same = neutral(m->g, d);
  if (same != TT_NONE && tt_match_same_type(m->g, same, d->out[0])) return tt_match_replace(m, n, same);
  switch (d->op) {
  case TT_OP_MUL:
  case TT_OP_DIV: return merge_factors(m, n);
  case TT_OP_POW: return power(m, n);
  case TT_OP_GATHER: return slice_for_gather(m, n);
  case TT_OP_MATMUL: return transposed_operands(m, n);
  default: return false;
  }
}

tt_pass_result tt_opt_algebra(tt_graph *g, tt_pass_ctx *ctx) { return tt_match_run(g, ctx, TT_OP_COUNT, simplify); }
