/* Measures what each of the six quantizers loses on one batch: |x - Q(x)| / |x| over all its uses (NUMERICS 4).
 *
 *   before:  a graph with gradients
 *   after:   results logits and quantizer_error:qK [1,1] for each quantizer that is used; gradients are no results any more
 *
 * Which quantizer a node is shows from what it reads: the latent or packed weight (Q2, Q4), what the loss is computed from
 * (Q1, Q6) or a gradient (Q3, Q5). Q4 and Q6 are measured against what they are given, so under double quantization against
 * the values of Q2(W) and Q1(X). Each error is built beside its quantizer, so that few tensors live at once. Runs after
 * autodiff, before lower_mx_mixed. */
#include "passes/pass.h"
#include "passes/track.h"

enum { N_QUANTIZERS = 6 };

typedef struct meter {
  tt_builder b;
  bool *forward; /* by value: the loss is computed from it */
  int n[N_QUANTIZERS];
  tt_value *sums[N_QUANTIZERS]; /* [1,2] each: |x - Q(x)|^2, |x|^2 */
} meter;

static void mark_forward(const tt_graph *g, bool *forward) {
  forward[tt_graph_result(g, "loss")] = true;
  TT_FOR_NODES_REVERSE(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    bool any = false;
    for (int i = 0; i < d->n_out; i++) any |= forward[d->out[i]];
    for (int i = 0; any && i < d->n_in; i++) forward[d->in[i]] = true;
  }
}

/* 0 to 5: Q1 to Q6. */
static int quantizer_of(const meter *m, tt_node n) {
  const tt_graph *g = m->b.g;
  const tt_node_data *d = tt_nod(g, n);
  tt_value x = d->in[0];
  bool across = d->op == TT_OP_MX_REQUANTIZE || tt_node_int(g, n, TT_A_TRANSPOSED);
  tt_node first = tt_def_op(g, x, TT_OP_MX_QUANTIZE);
  if (first != TT_NONE) x = tt_nod(g, first)->in[0];
  if (tt_val(g, x)->kind == TT_VALUE_VAR) return across ? 3 : 1;
  if (m->forward[x]) return across ? 5 : 0;
  return across ? 4 : 2;
}

static tt_value matrix(tt_builder *b, tt_value x) {
  tt_graph *g = b->g;
  if (tt_typ(g, x)->dtype == TT_MX) return tt_build1(b, TT_OP_MX_DEQUANTIZE, x, 0, NULL);
  const tt_type *t = tt_typ(g, x);
  if (t->rank == 2) return x;
  tt_attr shape = tt_attr_ints(g, TT_A_SHAPE, 2, (int64_t[]){tt_type_rows(t), tt_type_last(t)});
  return tt_build1(b, TT_OP_RESHAPE, x, 1, &shape);
}

static bool measure(meter *m, tt_node n) {
  tt_graph *g = m->b.g;
  const tt_node_data d = *tt_nod(g, n);
  int which = quantizer_of(m, n);
  m->b.at = d.next;
  m->b.loc = d.loc;
  tt_value in[2] = {TT_NONE, matrix(&m->b, d.in[0])}, q = tt_build1(&m->b, TT_OP_MX_DEQUANTIZE, d.out[0], 0, NULL);
  if (d.op == TT_OP_MX_REQUANTIZE || tt_node_int(g, n, TT_A_TRANSPOSED)) {
    tt_attr perm = tt_attr_ints(g, TT_A_PERM, 2, (int64_t[]){1, 0});
    q = tt_build1(&m->b, TT_OP_TRANSPOSE, q, 1, &perm);
  }
  in[0] = tt_build2(&m->b, TT_OP_SUB, in[1], q, 0, NULL);
  TT_TRY(in[0] != TT_NONE);
  tt_node sums = tt_build(&m->b, TT_OP_SUMSQ, 2, in, 0, NULL);
  TT_TRY(sums != TT_NONE);
  tt_attr shape = tt_attr_ints(g, TT_A_SHAPE, 2, (int64_t[]){1, 2});
  m->sums[which][m->n[which]++] = tt_build1(&m->b, TT_OP_RESHAPE, tt_nod(g, sums)->out[0], 1, &shape);
  return true;
}

static tt_value column(tt_builder *b, tt_value x, int64_t i) {
  tt_graph *g = b->g;
  tt_attr attrs[] = {tt_attr_ints(g, TT_A_STARTS, 2, (int64_t[]){0, i}), tt_attr_ints(g, TT_A_ENDS, 2, (int64_t[]){1, i + 1}),
                     tt_attr_ints(g, TT_A_STEPS, 2, (int64_t[]){1, 1})};
  return tt_build1(b, TT_OP_SLICE, x, 3, attrs);
}

static bool put_error(meter *m, int which) {
  tt_graph *g = m->b.g;
  if (m->n[which] == 0) return true;
  tt_attr axis = tt_attr_int(TT_A_AXIS, 0);
  tt_node all = tt_build(&m->b, TT_OP_CONCAT, m->n[which], m->sums[which], 1, &axis);
  TT_TRY(all != TT_NONE);
  tt_value sum = tt_track_sum(&m->b, tt_nod(g, all)->out[0], 0); // [1,2]
  tt_value norm = tt_build2(&m->b, TT_OP_MAX, column(&m->b, sum, 1), tt_graph_const_f32(g, 1e-30f), 0, NULL);
  tt_value error = tt_build1(&m->b, TT_OP_SQRT, tt_build2(&m->b, TT_OP_DIV, column(&m->b, sum, 0), norm, 0, NULL), 0, NULL);
  TT_TRY(error != TT_NONE);
  tt_graph_set_result(g, tt_arena_printf(g->arena, "quantizer_error:q%d", which + 1), error);
  return true;
}

static void keep_logits(tt_graph *g) {
  tt_value logits = tt_graph_result(g, "logits");
  g->results.count = 0;
  if (logits != TT_NONE) tt_graph_set_result(g, "logits", logits);
}

tt_pass_result tt_add_quantizer_errors(tt_graph *g, tt_pass_ctx *ctx) {
  if (tt_graph_result(g, "loss") == TT_NONE) {
    tt_error(ctx->diag, (tt_loc){.file = g->module->name}, "graph '%s' has no result 'loss'; add_loss makes it", g->name);
    return TT_PASS_FAILED;
  }
  size_t n_nodes = g->nodes.count;
  meter m = {.b = {.g = g, .diag = ctx->diag}, .forward = TT_NEW_N(ctx->scratch, bool, g->values.count)};
  for (int i = 0; i < N_QUANTIZERS; i++) m.sums[i] = TT_NEW_N(ctx->scratch, tt_value, n_nodes);
  mark_forward(g, m.forward);
  bool ok = true;
  for (tt_node n = g->first; n != TT_NONE && ok; n = tt_nod(g, n)->next) {
    tt_op op = tt_nod(g, n)->op;
    if (n < n_nodes && (op == TT_OP_MX_QUANTIZE || op == TT_OP_MX_REQUANTIZE)) ok = measure(&m, n);
  }
  keep_logits(g);
  m.b.at = TT_NONE;
  m.b.loc = (tt_loc){.file = g->module->name, .node = "track"};
  for (int i = 0; i < N_QUANTIZERS && ok; i++) ok = put_error(&m, i);
  return ok ? TT_PASS_CHANGED : TT_PASS_FAILED;
}
