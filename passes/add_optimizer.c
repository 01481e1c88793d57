/* Makes a graph with gradients into a training step: gradient norm, clipping, AdamW.
 *
 *   before:  results {loss, losses, logits, grad:<param>...}
 *   after:   inputs lr, bc1, bc2; results {loss, losses, logits, grad_sumsq [params], grad_norm []}; an adamw node and
 * three updates (weight, m:<param>, v:<param>) for each parameter with a gradient; adamw_ema, with ema:<param>, for a weight
 * that is rounded by its moving average; a freeze node behind the adamw of a quantized weight under oscillation.control =
 * freeze
 *
 * Clipping by the global norm needs every gradient before the first update, so all adamw nodes come last: nothing reads a
 * weight after it was overwritten. Weight decay is for the weights of matrix products alone; biases, norms, tokens and
 * position embeddings are excluded, which is seen from how a parameter is used. Must run after autodiff. */
#include "passes/grad.h"
#include "passes/pass.h"
#include <string.h>

/* The var that v is, elsewhere or in another format; TT_NONE. */
static uint32_t var_behind(const tt_graph *g, tt_value v) {
  for (;;) {
    const tt_value_data *d = tt_val(g, v);
    if (d->kind == TT_VALUE_VAR) return d->index;
    if (d->kind != TT_VALUE_NODE) return TT_NONE;
    const tt_node_data *n = tt_nod(g, d->def);
    if (!(tt_ops[n->op].flags & TT_SAME)) return TT_NONE;
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
    unsigned flags = tt_ops[d->op].flags;
    if (flags & TT_WEIGHT0) mark_decay(g, d->in[0]);
    if (flags & TT_WEIGHT1) mark_decay(g, d->in[1]);
  }
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

/* The weight as adamw leaves it -> with the elements held that oscillate. What the forward of this step has used as Q2(w)
 * tells whether they do. */
static tt_value add_freeze(tt_builder *b, const tt_recipe *r, uint32_t var, tt_value w) {
  static const char *const prefix[] = {"freeze-last:", "freeze-mean:", "freeze-rate:", "freeze-mark:"};
  tt_graph *g = b->g;
  uint32_t vars[5] = {var};
  tt_value in[6] = {[0] = w, [5] = tt_build_quantized_values(b, var)};
  if (in[5] == TT_NONE) return TT_NONE;
  for (int i = 1; i < 5; i++) {
    vars[i] = tt_state_var(g->module, prefix[i - 1], var, TT_NONE);
    in[i] = tt_graph_var(g, vars[i]);
  }
  tt_attr attrs[] = {tt_attr_float(TT_A_THRESHOLD, r->freeze_threshold), tt_attr_float(TT_A_MOMENTUM, r->freeze_momentum)};
  tt_node n = tt_build(b, TT_OP_FREEZE, 6, in, 2, attrs);
  if (n == TT_NONE) return TT_NONE;
  for (int i = 1; i < 5; i++) tt_graph_add_update(g, vars[i], tt_nod(g, n)->out[i]);
  return tt_nod(g, n)->out[0];
}

static bool add_adamw(tt_builder *b, const tt_recipe *r, uint32_t var, tt_value grad, const tt_value scalars[4]) {
  tt_graph *g = b->g;
  uint32_t vars[4] = {var, tt_state_var(g->module, "m:", var, TT_NONE), tt_state_var(g->module, "v:", var, TT_NONE)};
  int n = 3;
  uint32_t ema = tt_module_find_var(g->module, tt_arena_printf(g->arena, "ema:%s", g->module->vars.data[var].name));
  if (ema != TT_NONE) vars[n++] = ema;
  tt_value in[9];
  for (int i = 0; i < n; i++) in[i] = tt_graph_var(g, vars[i]);
  in[n] = grad;
  memcpy(in + n + 1, scalars, 4 * sizeof *in);
  tt_attr attrs[] = {tt_attr_float(TT_A_BETA1, r->beta1), tt_attr_float(TT_A_BETA2, r->beta2),
                     tt_attr_float(TT_A_EPSILON, r->eps),
                     tt_attr_float(TT_A_WEIGHT_DECAY, g->module->vars.data[var].decay ? r->weight_decay : 0),
                     tt_attr_float(TT_A_EMA_BETA, r->ema_beta)};
  b->loc = (tt_loc){.file = g->module->name, .node = g->module->vars.data[var].name};
  tt_node step = tt_build(b, n == 4 ? TT_OP_ADAMW_EMA : TT_OP_ADAMW, n + 5, in, n == 4 ? 5 : 4, attrs);
  TT_TRY(step != TT_NONE);
  size_t own = g->updates.count;
  for (int i = 0; i < n; i++) tt_graph_add_update(g, vars[i], tt_nod(g, step)->out[i]);
  if (r->control != TT_CONTROL_FREEZE || tt_quantized_weight(g, var) == TT_NONE) return true;
  tt_value held = add_freeze(b, r, var, tt_nod(g, step)->out[0]);
  g->updates.data[own].value = held;
  return held != TT_NONE;
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
