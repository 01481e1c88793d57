/* Makes a graph with gradients into a training step: gradient norm, clipping, AdamW.
 *
 *   before:  results {loss, losses, logits, grad:<param>...}
 *   after:   inputs lr, bc1, bc2; results {loss, losses, logits, grad_sumsq [params], grad_norm []}; an adamw node and
 * three updates (weight, m:<param>, v:<param>) for each parameter with a gradient
 *
 * Clipping by the global norm needs every gradient before the first update, so all adamw nodes come last: nothing reads a
 * weight after it was overwritten. Weight decay is for the weights of matrix products alone; biases, norms, tokens and
 * position embeddings are excluded, which is seen from how a parameter is used. Must run after autodiff. */
#include "passes/pass.h"
#include <string.h>

/* The var that v is, seen through reshape and transpose; TT_NONE. */
static uint32_t var_behind(const tt_graph *g, tt_value v) {
  for (;;) {
    const tt_value_data *d = tt_val(g, v);
    if (d->kind == TT_VALUE_VAR) return d->index;
    if (d->kind != TT_VALUE_NODE) return TT_NONE;
    const tt_node_data *n = tt_nod(g, d->def);
    if (n->op != TT_OP_RESHAPE && n->op != TT_OP_TRANSPOSE && n->op != TT_OP_MX_QUANTIZE) return TT_NONE;
    v = n->in[0];
  }
}

static void mark_decay(tt_graph *g, tt_value v) {
  uint32_t var = var_behind(g, v);
  if (var == TT_NONE) return;
  tt_var *info = &g->module->vars.data[var];
  if (info->role == TT_VAR_PARAM && info->type.rank >= 2) info->decay = true;
}

static void choose_decay(tt_graph *g, bool all) {
  tt_module *m = g->module;
  for (size_t i = 0; i < m->vars.count; i++) m->vars.data[i].decay = all && m->vars.data[i].role == TT_VAR_PARAM;
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (d->op == TT_OP_LINEAR || d->op == TT_OP_CONV || d->op == TT_OP_MX_GEMM || d->op == TT_OP_MATMUL)
      mark_decay(g, d->in[1]);
    if (d->op == TT_OP_MATMUL) mark_decay(g, d->in[0]);
  }
}

/* The state var `prefix``param`, zeros, made by the first graph that needs it. */
static uint32_t state_var(tt_module *m, const char *prefix, uint32_t param) {
  const char *name = tt_arena_printf(m->arena, "%s%s", prefix, m->vars.data[param].name);
  uint32_t var = tt_module_find_var(m, name);
  if (var != TT_NONE) return var;
  return tt_module_add_var(
      m, (tt_var){.name = name, .type = m->vars.data[param].type, .role = TT_VAR_STATE, .copy_of = TT_NONE});
}

/* Per-parameter gradients in the order of the module's vars, TT_NONE where there is none; the results are taken away. */
static tt_value *take_gradients(tt_graph *g, tt_arena *scratch) {
  tt_module *m = g->module;
  tt_value *grads = TT_NEW_N(scratch, tt_value, m->vars.count);
  memset(grads, 0xff, sizeof *grads * m->vars.count);
  size_t kept = 0;
  for (size_t i = 0; i < g->results.count; i++) {
    tt_result r = g->results.data[i];
    if (strncmp(r.name, "grad:", 5) != 0) {
      g->results.data[kept++] = r;
      continue;
    }
    uint32_t var = tt_module_find_var(m, r.name + 5);
    TT_ASSERT(var != TT_NONE);
    grads[var] = r.value;
  }
  g->results.count = kept;
  return grads;
}

/* grad_sumsq has one entry a parameter, so one without a gradient stands as a zero in its place. */
static tt_value add_norm(tt_builder *b, tt_pass_ctx *ctx, const tt_value *grads, size_t n_vars) {
  tt_graph *g = b->g;
  tt_value *in = TT_NEW_N(ctx->scratch, tt_value, n_vars);
  int n = 0;
  for (size_t i = 0; i < n_vars; i++) {
    const tt_var *var = &g->module->vars.data[i];
    if (var->role != TT_VAR_PARAM) continue;
    if (grads[i] == TT_NONE)
      tt_warning(ctx->diag, (tt_loc){.file = g->module->name},
                 "the loss does not depend on parameter '%s': it stays as it is", var->name);
    in[n++] = grads[i] == TT_NONE ? tt_graph_const_f32(g, 0) : grads[i];
  }
  tt_node sumsq = tt_build(b, TT_OP_SUMSQ, n, in, 0, NULL);
  if (sumsq == TT_NONE) return TT_NONE;
  tt_value squares = tt_nod(g, sumsq)->out[0];
  tt_attr attr = tt_attr_float(TT_A_MAX_NORM, ctx->recipe->clip_norm);
  tt_node clip = tt_build(b, TT_OP_CLIP_COEF, 1, &squares, 1, &attr);
  if (clip == TT_NONE) return TT_NONE;
  tt_graph_set_result(g, "grad_sumsq", squares);
  tt_graph_set_result(g, "grad_norm", tt_nod(g, clip)->out[1]);
  return tt_nod(g, clip)->out[0];
}

static bool add_adamw(tt_builder *b, const tt_recipe *r, uint32_t var, tt_value grad, const tt_value scalars[4]) {
  tt_graph *g = b->g;
  const uint32_t vars[3] = {var, state_var(g->module, "m:", var), state_var(g->module, "v:", var)};
  tt_value in[8] = {tt_graph_var(g, vars[0]), tt_graph_var(g, vars[1]), tt_graph_var(g, vars[2]), grad};
  memcpy(in + 4, scalars, 4 * sizeof *in);
  tt_attr attrs[] = {tt_attr_float(TT_A_BETA1, r->beta1), tt_attr_float(TT_A_BETA2, r->beta2),
                     tt_attr_float(TT_A_EPSILON, r->eps),
                     tt_attr_float(TT_A_WEIGHT_DECAY, g->module->vars.data[var].decay ? r->weight_decay : 0)};
  b->loc = (tt_loc){.file = g->module->name, .node = g->module->vars.data[var].name};
  tt_node n = tt_build(b, TT_OP_ADAMW, 8, in, 4, attrs);
  TT_TRY(n != TT_NONE);
  for (int i = 0; i < 3; i++) tt_graph_add_update(g, vars[i], tt_nod(g, n)->out[i]);
  return true;
}

tt_pass_result tt_add_optimizer(tt_graph *g, tt_pass_ctx *ctx) {
  size_t n_vars = g->module->vars.count;
  tt_value *grads = take_gradients(g, ctx->scratch);
  choose_decay(g, ctx->recipe->decay_1d);
  tt_builder b = {.g = g, .diag = ctx->diag, .at = TT_NONE, .loc = {.file = g->module->name, .node = "optimizer"}};
  tt_value scalars[4]; // coef, lr, bc1, bc2
  static const char *const names[] = {"lr", "bc1", "bc2"};
  for (int i = 0; i < 3; i++) scalars[1 + i] = tt_graph_add_input(g, names[i], tt_type_scalar(TT_F32));
  scalars[0] = add_norm(&b, ctx, grads, n_vars);
  if (scalars[0] == TT_NONE) return TT_PASS_FAILED;
  for (size_t i = 0; i < n_vars; i++)
    if (grads[i] != TT_NONE && !add_adamw(&b, ctx->recipe, (uint32_t)i, grads[i], scalars)) return TT_PASS_FAILED;
  return TT_PASS_CHANGED;
}
