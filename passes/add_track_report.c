/* Makes the forward graph into the entry that reports on a window of tracked steps (NUMERICS 7).
 *
 *   before:  the forward graph
 *   after:   input window [], the number of moves in the window; results, with a row for each tracked weight and one for all,
 *              track:elements, track:rate_w [n+1]
 *            and where weights are quantized
 *              track:rate_q, track:ratio, track:oscillating, track:confidence, track:error, track:saturation,
 *              track:scale_first [n+1]; track:confidence_hist [n+1,20], track:scale_hist [n+1,64]: counts
 *              track_peak [n], track_peak_index [n]: the largest ratio of each weight, and which element has it
 *
 * R = dist_Q / (dist_W + 1e-8); oscillating is the share with R > 16; error is |W - Q(W)| / |W|; saturation the share of
 * elements of the largest magnitude. Requires add_track's vars; breaks the forward's results. */
#include "passes/grad.h"
#include "passes/track.h"

enum { OSCILLATING = 16, CONFIDENCE_BINS = 20, SCALE_FIRST = 80, SCALE_BINS = 64, BIAS = 127 };

typedef struct reporter {
  tt_builder b;
  tt_tracked w;
  tt_arena *scratch;
  tt_value elements; /* [n+1] */
} reporter;

static bool put(reporter *r, const char *name, tt_value v) {
  TT_TRY(v != TT_NONE);
  tt_graph_set_result(r->b.g, name, v);
  return true;
}

static tt_value shaped(reporter *r, tt_value x, int rank, const int64_t *dim) {
  tt_attr shape = tt_attr_ints(r->b.g, TT_A_SHAPE, rank, dim);
  return tt_build1(&r->b, TT_OP_RESHAPE, x, 1, &shape);
}

/* Columns [from, to) of a matrix. */
static tt_value columns(reporter *r, tt_value x, int64_t row, int64_t rows, int64_t from, int64_t to) {
  tt_graph *g = r->b.g;
  tt_attr attrs[] = {tt_attr_ints(g, TT_A_STARTS, 2, (int64_t[]){row, from}),
                     tt_attr_ints(g, TT_A_ENDS, 2, (int64_t[]){row + rows, to}),
                     tt_attr_ints(g, TT_A_STEPS, 2, (int64_t[]){1, 1})};
  return tt_build1(&r->b, TT_OP_SLICE, x, 3, attrs);
}

/* Shares [n+1] from one column of counts [n,k]. */
static tt_value share_of_column(reporter *r, tt_value counts, int64_t column) {
  tt_value each = shaped(r, columns(r, counts, 0, r->w.n, column, column + 1), 1, (int64_t[]){r->w.n});
  return tt_build2(&r->b, TT_OP_DIV, tt_track_with_total(&r->b, each), r->elements, 0, NULL);
}

/* One number of each tensor, [n]. */
static tt_value reduce_each(reporter *r, tt_op op, const tt_value *x) {
  tt_graph *g = r->b.g;
  tt_value *each = TT_NEW_N(r->scratch, tt_value, r->w.n);
  for (int i = 0; i < r->w.n; i++) {
    int rank = tt_typ(g, x[i])->rank;
    int64_t axes[TT_MAX_RANK];
    for (int k = 0; k < rank; k++) axes[k] = k;
    tt_attr attrs[] = {tt_attr_ints(g, TT_A_AXES, rank, axes), tt_attr_int(TT_A_KEEPDIMS, 0)};
    each[i] = shaped(r, tt_build1(&r->b, op, x[i], 2, attrs), 1, (int64_t[]){1});
    if (each[i] == TT_NONE) return TT_NONE;
  }
  tt_attr axis = tt_attr_int(TT_A_AXIS, 0);
  tt_node n = tt_build(&r->b, TT_OP_CONCAT, r->w.n, each, 1, &axis);
  return n == TT_NONE ? TT_NONE : tt_nod(g, n)->out[0];
}

static tt_value mean_each(reporter *r, const tt_value *x) {
  return tt_build2(&r->b, TT_OP_DIV, tt_track_with_total(&r->b, reduce_each(r, TT_OP_REDUCE_SUM, x)), r->elements, 0, NULL);
}

static tt_value histogram(reporter *r, const tt_value *x, double high, int64_t bins) {
  tt_attr attrs[] = {tt_attr_float(TT_A_LOW, 0), tt_attr_float(TT_A_HIGH, high), tt_attr_int(TT_A_BINS, bins)};
  tt_node n = tt_build(&r->b, TT_OP_HISTOGRAM, r->w.n, x, 3, attrs);
  return n == TT_NONE ? TT_NONE : tt_nod(r->b.g, n)->out[0];
}

static bool put_rates(reporter *r) {
  tt_graph *g = r->b.g;
  static const char *const names[] = {"track:rate_w", "track:rate_q"};
  tt_value rate = tt_graph_var(g, tt_track_rate_var(g->module, &r->w));
  tt_value mean = tt_build2(&r->b, TT_OP_DIV, rate, tt_graph_add_input(g, "window", tt_type_scalar(TT_F32)), 0, NULL);
  TT_TRY(mean != TT_NONE);
  for (int i = 0; i < (r->w.quantized ? 2 : 1); i++)
    TT_TRY(put(r, names[i], shaped(r, columns(r, mean, i, 1, 0, r->w.n + 1), 1, (int64_t[]){r->w.n + 1})));
  return true;
}

static bool put_ratios(reporter *r) {
  tt_graph *g = r->b.g;
  tt_value *ratio = TT_NEW_N(r->scratch, tt_value, r->w.n);
  for (int i = 0; i < r->w.n; i++) {
    tt_value dw = tt_graph_var(g, tt_track_var(g->module, "track-dw:", r->w.vars[i]));
    tt_value dq = tt_graph_var(g, tt_track_var(g->module, "track-dq:", r->w.vars[i]));
    dw = tt_build2(&r->b, TT_OP_ADD, dw, tt_graph_const_f32(g, 1e-8f), 0, NULL);
    ratio[i] = tt_build2(&r->b, TT_OP_DIV, dq, dw, 0, NULL);
    TT_TRY(ratio[i] != TT_NONE);
  }
  tt_node peak = tt_build(&r->b, TT_OP_ARG_MAX, r->w.n, ratio, 0, NULL);
  TT_TRY(peak != TT_NONE && put(r, "track:ratio", mean_each(r, ratio)));
  TT_TRY(put(r, "track:oscillating", share_of_column(r, histogram(r, ratio, 2 * OSCILLATING, 2), 1)));
  return put(r, "track_peak", reduce_each(r, TT_OP_REDUCE_MAX, ratio)) && put(r, "track_peak_index", tt_nod(g, peak)->out[0]);
}

static tt_value total_squares(reporter *r, const tt_value *x) {
  tt_node n = tt_build(&r->b, TT_OP_SUMSQ, r->w.n, x, 0, NULL);
  return n == TT_NONE ? TT_NONE : tt_track_with_total(&r->b, tt_nod(r->b.g, n)->out[0]);
}

static bool put_error(reporter *r) {
  tt_graph *g = r->b.g;
  tt_value *w = TT_NEW_N(r->scratch, tt_value, r->w.n), *off = TT_NEW_N(r->scratch, tt_value, r->w.n);
  for (int i = 0; i < r->w.n; i++) {
    w[i] = tt_graph_var(g, r->w.vars[i]);
    off[i] = tt_build2(&r->b, TT_OP_SUB, w[i], tt_build_quantized_values(&r->b, r->w.vars[i]), 0, NULL);
    TT_TRY(off[i] != TT_NONE);
  }
  tt_value norm = tt_build2(&r->b, TT_OP_MAX, total_squares(r, w), tt_graph_const_f32(g, 1e-30f), 0, NULL);
  tt_value error = tt_build2(&r->b, TT_OP_DIV, total_squares(r, off), norm, 0, NULL);
  return put(r, "track:error", tt_build1(&r->b, TT_OP_SQRT, error, 0, NULL));
}

static bool put_confidence(reporter *r) {
  tt_graph *g = r->b.g;
  tt_value *confidence = TT_NEW_N(r->scratch, tt_value, r->w.n);
  for (int i = 0; i < r->w.n; i++) {
    tt_node quantize = tt_val(g, tt_quantized_weight(g, r->w.vars[i]))->def;
    tt_attr q = tt_attr_qspec(TT_A_Q, tt_node_qspec(g, quantize, TT_A_Q));
    confidence[i] = tt_build1(&r->b, TT_OP_MX_CONFIDENCE, tt_graph_var(g, r->w.vars[i]), 1, &q);
    TT_TRY(confidence[i] != TT_NONE);
  }
  TT_TRY(put(r, "track:confidence", mean_each(r, confidence)));
  return put(r, "track:confidence_hist", tt_track_with_total(&r->b, histogram(r, confidence, 1, CONFIDENCE_BINS)));
}

/* The same number for every row. */
static tt_value constant(reporter *r, double x) {
  float *v = TT_NEW_N(r->scratch, float, r->w.n + 1);
  for (int i = 0; i <= r->w.n; i++) v[i] = (float)x;
  return tt_graph_const(r->b.g, tt_type_make(TT_F32, 1, (int64_t[]){r->w.n + 1}), v);
}

static bool put_census(reporter *r) {
  tt_graph *g = r->b.g;
  tt_value *mx = TT_NEW_N(r->scratch, tt_value, r->w.n);
  for (int i = 0; i < r->w.n; i++) mx[i] = tt_quantized_weight(g, r->w.vars[i]);
  tt_node census = tt_build(&r->b, TT_OP_MX_CENSUS, r->w.n, mx, 0, NULL);
  TT_TRY(census != TT_NONE);
  tt_value codes = tt_nod(g, census)->out[0], scales = tt_nod(g, census)->out[1];
  TT_TRY(put(r, "track:saturation", share_of_column(r, codes, 7)));
  scales = columns(r, scales, 0, r->w.n, SCALE_FIRST, SCALE_FIRST + SCALE_BINS);
  return put(r, "track:scale_hist", tt_track_with_total(&r->b, scales)) &&
         put(r, "track:scale_first", constant(r, SCALE_FIRST - BIAS));
}

static tt_value element_counts(reporter *r) {
  float *count = TT_NEW_N(r->scratch, float, r->w.n + 1);
  double total = 0;
  for (int i = 0; i < r->w.n; i++) {
    double n = (double)tt_type_count(&r->b.g->module->vars.data[r->w.vars[i]].type);
    count[i] = (float)n;
    total += n;
  }
  count[r->w.n] = (float)total;
  return tt_graph_const(r->b.g, tt_type_make(TT_F32, 1, (int64_t[]){r->w.n + 1}), count);
}

tt_pass_result tt_add_track_report(tt_graph *g, tt_pass_ctx *ctx) {
  reporter r = {.b = {.g = g, .diag = ctx->diag, .at = TT_NONE, .loc = {.file = g->module->name, .node = "track"}},
                .w = tt_find_tracked(g, ctx->scratch),
                .scratch = ctx->scratch};
  g->results.count = 0;
  if (r.w.n == 0) return TT_PASS_CHANGED;
  r.elements = element_counts(&r);
  bool ok = put(&r, "track:elements", r.elements) && put_rates(&r);
  if (r.w.quantized) ok = ok && put_ratios(&r) && put_error(&r) && put_confidence(&r) && put_census(&r);
  return ok ? TT_PASS_CHANGED : TT_PASS_FAILED;
}
