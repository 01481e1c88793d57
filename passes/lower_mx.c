/* Rewrites the linears a recipe selects into 4-bit arithmetic (NUMERICS 4):
 *
 *   before:  y = linear(x [..,D], w [C,D], bias)
 *   after:   a = mx.quantize(x){q1}; b = mx.quantize(w){q2}; t = mx.gemm(a, b, bias){q3..q6}; y = reshape(t)
 *
 * Linears that read one x share its quantized form. A quantizer that is off leaves its operand a float32 matrix; with all
 * six off the linear stays as it is. `block-linears` are recognised by structure, not by name: those on a branch that
 * leaves the residual stream and comes back to it in an add. The patch embedding lies before every branch, the classifier
 * after. Runs after canonicalisation (it sees only `linear`) and before autodiff (mx.gemm's rule makes the backward). */
#include "passes/grad.h"
#include "passes/pass.h"
#include <fnmatch.h>
#include <string.h>

/* Marks the values that v is computed from, v included; nodes before `at` only, as they are in execution order. */
static void mark_ancestors(const tt_graph *g, tt_node at, tt_value v, bool *anc) {
  memset(anc, 0, g->values.count);
  anc[v] = true;
  for (tt_node n = at; n != TT_NONE; n = tt_nod(g, n)->prev) {
    const tt_node_data *d = tt_nod(g, n);
    bool any = false;
    for (int i = 0; i < d->n_out; i++) any |= anc[d->out[i]];
    for (int i = 0; any && i < d->n_in; i++) anc[d->in[i]] = true;
  }
}

/* Where the branch left the stream: the nearest value of the sum `v` that the branch depends on. Sums are looked through,
 * as parallel branches are added one after the other. */
static tt_value branch_start(const tt_graph *g, tt_value v, const bool *anc) {
  tt_value_kind kind = tt_val(g, v)->kind;
  if (kind == TT_VALUE_VAR || kind == TT_VALUE_CONST) return TT_NONE; // a bias or a position embedding
  if (anc[v]) return v;
  tt_node sum = tt_def_op(g, v, TT_OP_ADD);
  for (int i = 0; sum != TT_NONE && i < 2; i++) {
    tt_value start = branch_start(g, tt_nod(g, sum)->in[i], anc);
    if (start != TT_NONE) return start;
  }
  return TT_NONE;
}

/* Marks the linears between `start` and the value whose ancestors are `anc`. */
static void mark_between(const tt_graph *g, tt_node end, tt_value start, const bool *anc, bool *desc, bool *inside) {
  memset(desc, 0, g->values.count);
  desc[start] = true;
  tt_node def = tt_val(g, start)->def;
  for (tt_node n = def == TT_NONE ? g->first : tt_nod(g, def)->next; n != end; n = tt_nod(g, n)->next) {
    const tt_node_data *d = tt_nod(g, n);
    bool from = false;
    for (int i = 0; i < d->n_in; i++) from |= desc[d->in[i]];
    for (int i = 0; from && i < d->n_out; i++) desc[d->out[i]] = true;
    if (from && d->op == TT_OP_LINEAR && anc[d->out[0]]) inside[n] = true;
  }
}

/* inside[node]: a linear on a residual branch. */
static void find_block_linears(const tt_graph *g, tt_arena *scratch, bool *inside) {
  bool *anc = TT_NEW_N(scratch, bool, g->values.count), *desc = TT_NEW_N(scratch, bool, g->values.count);
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (d->op != TT_OP_ADD || !tt_type_equal(tt_typ(g, d->in[0]), tt_typ(g, d->in[1]))) continue;
    for (int i = 0; i < 2; i++) {
      if (tt_val(g, d->in[i])->kind != TT_VALUE_NODE) continue;
      mark_ancestors(g, n, d->in[i], anc);
      tt_value start = branch_start(g, d->in[1 - i], anc);
      if (start != TT_NONE) mark_between(g, n, start, anc, desc, inside);
    }
  }
}

/* The names a skip pattern may match: the weight's path in the model, the weight itself, the node. */
static bool name_matches(const tt_graph *g, tt_node n, const char *pattern) {
  const tt_node_data *d = tt_nod(g, n);
  const tt_value_data *w = tt_val(g, d->in[1]);
  const char *names[3] = {d->loc.node, w->name, NULL};
  if (w->kind == TT_VALUE_VAR) names[2] = g->module->vars.data[w->index].scope;
  for (int i = 0; i < 3; i++)
    if (names[i] && fnmatch(pattern, names[i], 0) == 0) return true;
  return false;
}

/* Takes what a comma list of patterns names out of the selection; a pattern that names no linear at all is a mistake. */
static void apply_skips(tt_graph *g, tt_pass_ctx *ctx, bool *selected) {
  if (!ctx->recipe->layers_skip) return;
  char *save = NULL, *list = tt_arena_str(ctx->scratch, ctx->recipe->layers_skip);
  for (char *p = strtok_r(list, ", \t", &save); p; p = strtok_r(NULL, ", \t", &save)) {
    bool any = false;
    TT_FOR_NODES(g, n) {
      if (tt_nod(g, n)->op != TT_OP_LINEAR || !name_matches(g, n, p)) continue;
      selected[n] = false;
      any = true;
    }
    if (!any)
      tt_warning(ctx->diag, (tt_loc){.file = g->module->name}, "layers.skip pattern '%s' matches no linear layer", p);
  }
}

static bool *select_linears(tt_graph *g, tt_pass_ctx *ctx) {
  bool *selected = TT_NEW_N(ctx->scratch, bool, g->nodes.count);
  if (ctx->recipe->layers == TT_LAYERS_BLOCK) find_block_linears(g, ctx->scratch, selected);
  TT_FOR_NODES(g, n)
  if (ctx->recipe->layers == TT_LAYERS_ALL) selected[n] = tt_nod(g, n)->op == TT_OP_LINEAR;
  apply_skips(g, ctx, selected);
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

/* x under quantizer `which` (0: Q1, 1: Q2), made at its first use. */
static tt_value quantized(lowering *l, int which, tt_value x) {
  TT_ASSERT(x < l->n_values);
  tt_value *q = &l->quantized[which][x];
  tt_qspec spec = l->recipe->q[which];
  if (*q == TT_NONE) *q = spec.on ? tt_build_mx_quantize(&l->b, TT_OP_MX_QUANTIZE, x, spec, false) : as_matrix(&l->b, x);
  return *q;
}

static bool lower_linear(lowering *l, tt_node n) {
  tt_graph *g = l->b.g;
  const tt_node_data d = *tt_nod(g, n);
  tt_type y_type = *tt_typ(g, d.out[0]);
  l->b.at = n;
  l->b.loc = d.loc;
  tt_value in[3] = {quantized(l, 0, d.in[0]), quantized(l, 1, d.in[1])};
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
