/* Rewrites the linears a recipe selects into 4-bit arithmetic (NUMERICS 4):
 *
 *   before:  y = linear(x [..,D], w [C,D], bias)
 *   after:   a = mx.quantize(x){q1}; b = mx.quantize(w){q2}; t = mx.gemm(a, b, bias){q3..q6}; y = reshape(t)
 *
 * Linears that read one x share its quantized form. A quantizer that is off leaves its operand a float32 matrix; with all
 * six off the linear stays as it is. `block-linears` are those of the blocks that blocks.h finds; first-blocks and
 * last-blocks keep those at either end in float32.
 *
 * With ema rounding Q2 has two more operands, the state var `ema:<weight>` and the random input, whose step says whether
 * the average rules already: mx.quantize(w, ema, rng){from}. Runs after canonicalisation (it sees only `linear`) and before
 * autodiff (mx.gemm's rule makes the backward). */
#include "passes/blocks.h"
#include "passes/grad.h"
#include <fnmatch.h>
#include <string.h>

/* The names a pattern may match: the weight's path in the model, the weight itself, the node. */
static bool name_matches(const tt_graph *g, tt_node n, const char *pattern) {
  const tt_node_data *d = tt_nod(g, n);
  const tt_value_data *w = tt_val(g, d->in[1]);
  const char *names[3] = {d->loc.node, w->name, NULL};
  if (w->kind == TT_VALUE_VAR) names[2] = g->module->vars.data[w->index].scope;
  for (int i = 0; i < 3; i++)
    if (names[i] && fnmatch(pattern, names[i], 0) == 0) return true;
  return false;
}

/* Sets selected[] to `to` for the linears that a comma list of patterns names; a pattern that names none is a mistake. */
static void apply_patterns(tt_graph *g, tt_pass_ctx *ctx, const char *key, const char *patterns, bool to, bool *selected) {
  if (!patterns) return;
  char *save = NULL, *list = tt_arena_str(ctx->scratch, patterns);
  for (char *p = strtok_r(list, ", \t", &save); p; p = strtok_r(NULL, ", \t", &save)) {
    bool any = false;
    TT_FOR_NODES(g, n) {
      if (tt_nod(g, n)->op != TT_OP_LINEAR || !name_matches(g, n, p)) continue;
      selected[n] = to;
      any = true;
    }
    if (!any)
      tt_warning(ctx->diag, (tt_loc){.file = g->module->name}, "layers.%s pattern '%s' matches no linear layer", key, p);
  }
}

/* Blocks at either end that the recipe keeps in float32. */
static void keep_ends(tt_graph *g, tt_pass_ctx *ctx, const tt_blocks *b, bool *selected) {
  const tt_recipe *r = ctx->recipe;
  if (r->first_blocks + r->last_blocks == 0) return;
  if (r->first_blocks + r->last_blocks >= b->count)
    tt_warning(ctx->diag, (tt_loc){.file = g->module->name},
               "layers.first-blocks = %lld and layers.last-blocks = %lld leave none of the model's %d blocks to quantize",
               (long long)r->first_blocks, (long long)r->last_blocks, b->count);
  TT_FOR_NODES(g, n)
  if (b->of[n] >= 0 && (b->of[n] < r->first_blocks || b->of[n] >= b->count - r->last_blocks)) selected[n] = false;
}

static bool *select_linears(tt_graph *g, tt_pass_ctx *ctx) {
  const tt_recipe *r = ctx->recipe;
  bool *selected = TT_NEW_N(ctx->scratch, bool, g->nodes.count);
  tt_blocks b = tt_find_blocks(g, ctx->scratch);
  TT_FOR_NODES(g, n) {
    if (r->layers == TT_LAYERS_BLOCK) selected[n] = b.of[n] >= 0;
    if (r->layers == TT_LAYERS_ALL) selected[n] = tt_nod(g, n)->op == TT_OP_LINEAR;
  }
  if (r->layers == TT_LAYERS_PATTERN) apply_patterns(g, ctx, "pattern", r->layers_pattern, true, selected);
  apply_patterns(g, ctx, "skip", r->layers_skip, false, selected);
  keep_ends(g, ctx, &b, selected);
  return selected;
}

typedef struct lowering {
  tt_builder b;
  const tt_recipe *recipe;
  size_t n_values;
  tt_value *quantized[2]; /* per value of the graph before: its form under Q1, Q2; TT_NONE */
} lowering;

static tt_value as_matrix(tt_builder *b, tt_value x) {
  const tt_type *t = tt_typ(b->g, x);
  if (t->rank == 2) return x;
  tt_attr shape = tt_attr_ints(b->g, TT_A_SHAPE, 2, (int64_t[]){tt_type_rows(t), tt_type_last(t)});
  return tt_build1(b, TT_OP_RESHAPE, x, 1, &shape);
}

/* A weight rounded by its moving average, a state var that starts as the weight and is kept by the optimizer. */
static tt_value ema_quantized(lowering *l, tt_value w, tt_loc loc) {
  tt_graph *g = l->b.g;
  if (tt_val(g, w)->kind != TT_VALUE_VAR) {
    tt_error(l->b.diag, loc,
             "q2.rounding = ema keeps a moving average of each weight, but this layer's weight is computed by the graph; "
             "exclude the layer by layers.skip");
    return TT_NONE;
  }
  uint32_t var = tt_val(g, w)->index;
  tt_value in[3] = {w, tt_graph_var(g, tt_state_var(g->module, "ema:", var, var))};
  tt_attr attrs[2] = {tt_attr_qspec(TT_A_Q, l->recipe->q[1])};
  int n = 1;
  if (l->recipe->ema_from > 0) {
    in[2] = tt_graph_rng(g);
    attrs[n++] = tt_attr_int(TT_A_FROM, l->recipe->ema_from);
  }
  tt_node quantize = tt_build(&l->b, TT_OP_MX_QUANTIZE, 1 + n, in, n, attrs);
  return quantize == TT_NONE ? TT_NONE : tt_nod(g, quantize)->out[0];
}

static tt_value make_quantized(lowering *l, int which, tt_value x) {
  tt_qspec spec = l->recipe->q[which];
  if (!spec.on) return as_matrix(&l->b, x);
  if (spec.rounding == TT_EMA) return ema_quantized(l, x, l->b.loc);
  return tt_build_mx_quantize(&l->b, TT_OP_MX_QUANTIZE, x, spec, false);
}

/* x under quantizer `which` (0: Q1, 1: Q2), made at its first use. */
static tt_value quantized(lowering *l, int which, tt_value x) {
  TT_ASSERT(x < l->n_values);
  tt_value *q = &l->quantized[which][x];
  if (*q == TT_NONE) *q = make_quantized(l, which, x);
  return *q;
}

static bool lower_linear(lowering *l, tt_node n) {
  tt_graph *g = l->b.g;
  const tt_node_data d = *tt_nod(g, n);
  tt_type y_type = *tt_typ(g, d.out[0]);
  l->b.at = n;
  l->b.loc = d.loc;
  tt_value in[3] = {quantized(l, 0, d.in[0]), quantized(l, 1, d.in[1])};
  TT_TRY(in[0] != TT_NONE && in[1] != TT_NONE);
  if (d.n_in == 3) in[2] = d.in[2];
  tt_attr attrs[4];
  for (int i = 0; i < 4; i++) attrs[i] = tt_attr_qspec((tt_attr_id)(TT_A_Q3 + i), l->recipe->q[2 + i]);
  tt_node gemm = tt_build(&l->b, TT_OP_MX_GEMM, d.n_in, in, 4, attrs);
  if (gemm == TT_NONE) return false;
  tt_value y = tt_nod(g, gemm)->out[0];
  if (y_type.rank != 2) {
    tt_attr shape = tt_attr_ints(g, TT_A_SHAPE, y_type.rank, y_type.dim);
    y = tt_build1(&l->b, TT_OP_RESHAPE, y, 1, &shape);
  }
  TT_TRY(y != TT_NONE);
  tt_graph_replace(g, d.out[0], y);
  tt_node_remove(g, n);
  return true;
}

tt_pass_result tt_lower_mx(tt_graph *g, tt_pass_ctx *ctx) {
  const tt_recipe *r = ctx->recipe;
  bool any_on = false;
  for (int i = 0; i < 6; i++) any_on |= r->q[i].on;
  if (!any_on || r->layers == TT_LAYERS_NONE) return TT_PASS_UNCHANGED;
  const bool *selected = select_linears(g, ctx);
  size_t n_nodes = g->nodes.count, n_selected = 0;
  lowering l = {.b = {.g = g, .diag = ctx->diag}, .recipe = r, .n_values = 0};
  /* Lowered linears may feed each other: room for the values that the rewrite itself adds (at most 4 a linear). */
  l.n_values = g->values.count + 4 * n_nodes;
  for (int i = 0; i < 2; i++) {
    l.quantized[i] = TT_NEW_N(ctx->scratch, tt_value, l.n_values);
    memset(l.quantized[i], 0xff, sizeof(tt_value) * l.n_values);
  }
  TT_FOR_NODES(g, n) {
    if (n >= n_nodes || !selected[n]) continue;
    if (!lower_linear(&l, n)) return TT_PASS_FAILED;
    n_selected++;
  }
  if (n_selected) return TT_PASS_CHANGED;
  tt_warning(ctx->diag, (tt_loc){.file = g->module->name},
             "recipe '%s' quantizes no layer of this model: no linear lies inside a residual block%s", r->name,
             r->layers_skip && r->layers_skip[0] ? " and outside layers.skip" : "");
  return TT_PASS_UNCHANGED;
}
