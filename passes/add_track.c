/* Makes the forward graph into the entry that follows weights from one optimizer step to the next (NUMERICS 7).
 *
 *   before:  the forward graph
 *   after:   input keep []; for each tracked weight w with 4-bit values q
 *              track-dw:w = keep * (track-dw:w + |w - track-w:w|),  track-w:w = w, and likewise track-dq, track-q
 *              track-rate = keep * (track-rate + |moves| / |values before them|), one column a weight and one for all
 *
 * keep = 0 begins a window: what a weight was before is then not known. Of the forward only the quantizers of weights stay,
 * as the step itself has them, moving averages and all. Requires lower_mx; breaks the forward's results. */
#include "passes/grad.h"
#include "passes/track.h"

typedef struct tracker {
  tt_builder b;
  tt_value keep;
  int n;
  tt_value *moves, *values; /* [n * (1 or 2)]: all of W, then all of Q(W) */
} tracker;

/* Follows `now`, a weight's latent or 4-bit values. */
static bool follow(tracker *t, uint32_t param, const char *last_prefix, const char *dist_prefix, tt_value now) {
  tt_graph *g = t->b.g;
  uint32_t last = tt_track_var(g->module, last_prefix, param), dist = tt_track_var(g->module, dist_prefix, param);
  tt_value move = tt_build2(&t->b, TT_OP_SUB, now, tt_graph_var(g, last), 0, NULL);
  tt_value way = tt_build2(&t->b, TT_OP_ADD, tt_graph_var(g, dist), tt_build1(&t->b, TT_OP_ABS, move, 0, NULL), 0, NULL);
  way = tt_build2(&t->b, TT_OP_MUL, way, t->keep, 0, NULL);
  TT_TRY(way != TT_NONE);
  t->moves[t->n] = move;
  t->values[t->n++] = tt_graph_var(g, last);
  tt_graph_add_update(g, last, now);
  tt_graph_add_update(g, dist, way);
  return true;
}

/* Sums of squares [rows * n] as [rows, n + 1]: each weight's, then all weights'. */
static tt_value squares(tracker *t, const tt_value *x, int rows) {
  tt_node n = tt_build(&t->b, TT_OP_SUMSQ, t->n, x, 0, NULL);
  if (n == TT_NONE) return TT_NONE;
  tt_attr shape = tt_attr_ints(t->b.g, TT_A_SHAPE, 2, (int64_t[]){rows, t->n / rows}), axis = tt_attr_int(TT_A_AXIS, 1);
  tt_value each = tt_build1(&t->b, TT_OP_RESHAPE, tt_nod(t->b.g, n)->out[0], 1, &shape);
  return tt_build2(&t->b, TT_OP_CONCAT, each, tt_track_sum(&t->b, each, 1), 1, &axis);
}

/* Before the first step of a window `last` may be zeros; a move over nothing counts as finite, and keep drops it. */
static bool add_rates(tracker *t, uint32_t rate, int rows) {
  tt_graph *g = t->b.g;
  tt_value before = tt_build2(&t->b, TT_OP_MAX, squares(t, t->values, rows), tt_graph_const_f32(g, 1e-20f), 0, NULL);
  tt_value r = tt_build2(&t->b, TT_OP_DIV, squares(t, t->moves, rows), before, 0, NULL);
  tt_value sum = tt_build2(&t->b, TT_OP_ADD, tt_graph_var(g, rate), tt_build1(&t->b, TT_OP_SQRT, r, 0, NULL), 0, NULL);
  sum = tt_build2(&t->b, TT_OP_MUL, sum, t->keep, 0, NULL);
  TT_TRY(sum != TT_NONE);
  tt_graph_add_update(g, rate, sum);
  return true;
}

tt_pass_result tt_add_track(tt_graph *g, tt_pass_ctx *ctx) {
  tt_tracked w = tt_find_tracked(g, ctx->scratch);
  g->results.count = 0;
  if (w.n == 0) return TT_PASS_CHANGED;
  tracker t = {.b = {.g = g, .diag = ctx->diag, .at = TT_NONE, .loc = {.file = g->module->name, .node = "track"}},
               .keep = tt_graph_add_input(g, "keep", tt_type_scalar(TT_F32)),
               .moves = TT_NEW_N(ctx->scratch, tt_value, 2 * w.n),
               .values = TT_NEW_N(ctx->scratch, tt_value, 2 * w.n)};
  uint32_t rate = tt_track_rate_var(g->module, &w);
  bool ok = true;
  for (int i = 0; i < w.n && ok; i++) ok = follow(&t, w.vars[i], "track-w:", "track-dw:", tt_graph_var(g, w.vars[i]));
  for (int i = 0; i < w.n && ok && w.quantized; i++) {
    tt_value q = tt_build_quantized_values(&t.b, w.vars[i]);
    ok = q != TT_NONE && follow(&t, w.vars[i], "track-q:", "track-dq:", q);
  }
  return ok && add_rates(&t, rate, w.quantized ? 2 : 1) ? TT_PASS_CHANGED : TT_PASS_FAILED;
}
