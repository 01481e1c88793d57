/* Drops the NaN guard that exporters of masked attention put around softmax.
 *
 *   %1 = softmax %0
 *   %2 = isnan %1                        %1 = softmax %0
 *   %3 = where %2, (const), %1           (uses of %3 take %1)
 *
 * softmax makes a NaN of finite numbers only where a whole row is -inf, which takes a mask. So the guard stays where a
 * `where`, or an added tensor that is not a constant with a finite number in every row, stands before the softmax. A NaN
 * that comes in from elsewhere is an error of training that the guard would hide: without it the step stops and names the
 * tensor. */
#include <math.h>
#include "passes/match.h"

/* Whether every row of a mask (last dimension) leaves something to look at. */
static bool rows_open(const tt_graph *g, tt_value mask) {
  const float *x = tt_const_data(g, mask);
  const tt_type *t = tt_typ(g, mask);
  if (!x || t->dtype != TT_F32) return false;
  const int64_t last = tt_type_last(t);
  for (int64_t row = 0; row < tt_type_rows(t); row++) {
    bool open = false;
    for (int64_t i = 0; i < last; i++) open |= isfinite(x[row * last + i]) != 0;
    if (!open) return false;
  }
  return true;
}

static bool may_close_rows(const tt_graph *g, tt_value scores) {
  if (tt_def_op(g, scores, TT_OP_WHERE) != TT_NONE) return true;
  const tt_node add = tt_def_op(g, scores, TT_OP_ADD);
  if (add == TT_NONE) return false;
  const tt_value *in = tt_nod(g, add)->in;
  return !rows_open(g, in[0]) && !rows_open(g, in[1]);
}

static bool drop_guard(tt_match *m, tt_node n) {
  const tt_value *in = tt_nod(m->g, n)->in;
  const tt_value guarded = tt_match_unary(m->g, in[0], TT_OP_ISNAN);
  if (guarded == TT_NONE || guarded != in[2]) return false;
  const tt_value scores = tt_match_unary(m->g, guarded, TT_OP_SOFTMAX);
  if (scores == TT_NONE || may_close_rows(m->g, scores)) return false;
  if (!tt_match_same_type(m->g, guarded, tt_nod(m->g, n)->out[0])) return false;
  return tt_match_replace(m, n, guarded);
}

tt_pass_result tt_canon_softmax_safe(tt_graph *g, tt_pass_ctx *ctx) {
  return tt_match_run(g, ctx, TT_OP_WHERE, drop_guard);
}
