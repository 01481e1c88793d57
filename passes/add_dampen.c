/* Oscillation dampening (Nagel et al. 2022, arXiv 2203.11086): weights are pulled to their quantized values.
 *
 *   before:  results {loss, grad:<w>...}
 *   after:   loss + lambda * sum over quantized weights of ||w - Q2(w)||^2, grad:<w> + 2 lambda (w - Q2(w))
 *
 * Q2(w) is what the forward uses anyway. It is a constant to this gradient, as theirs is: between two thresholds it is one,
 * and at a threshold the straight-through estimator would cancel the pull. Runs after autodiff and before add_optimizer. */
#include "passes/grad.h"
#include "passes/pass.h"

static tt_value scaled(tt_builder *b, tt_value x, double factor) {
  return tt_build2(b, TT_OP_MUL, x, tt_graph_const_f32(b->g, (float)factor), 0, NULL);
}

/* Adds the gradient of one weight; returns its squared distance, a scalar. */
static tt_value pull(tt_builder *b, uint32_t var, const char *result, double lambda) {
  tt_graph *g = b->g;
  b->loc = (tt_loc){.file = g->module->name, .node = g->module->vars.data[var].name};
  int rank = g->module->vars.data[var].type.rank;
  tt_value off = tt_build2(b, TT_OP_SUB, tt_graph_var(g, var), tt_build_quantized_values(b, var), 0, NULL);
  tt_value grad = tt_build2(b, TT_OP_ADD, tt_graph_result(g, result), scaled(b, off, 2 * lambda), 0, NULL);
  if (grad == TT_NONE) return TT_NONE;
  tt_graph_set_result(g, result, grad);
  int64_t axes[TT_MAX_RANK];
  for (int i = 0; i < rank; i++) axes[i] = i;
  tt_attr attrs[] = {tt_attr_ints(g, TT_A_AXES, rank, axes), tt_attr_int(TT_A_KEEPDIMS, 0)};
  return tt_build1(b, TT_OP_REDUCE_SUM, tt_build2(b, TT_OP_MUL, off, off, 0, NULL), 2, attrs);
}

tt_pass_result tt_add_dampen(tt_graph *g, tt_pass_ctx *ctx) {
  if (ctx->recipe->control != TT_CONTROL_DAMPEN) return TT_PASS_UNCHANGED;
  tt_builder b = {.g = g, .diag = ctx->diag, .at = TT_NONE};
  const double lambda = ctx->recipe->dampen_lambda;
  tt_value sum = TT_NONE;
  for (uint32_t i = 0; i < g->module->vars.count; i++) {
    const char *result = tt_arena_printf(g->arena, "grad:%s", g->module->vars.data[i].name);
    if (tt_graph_result(g, result) == TT_NONE || tt_quantized_weight(g, i) == TT_NONE) continue;
    tt_value square = pull(&b, i, result, lambda);
    if (square == TT_NONE) return TT_PASS_FAILED;
    sum = sum == TT_NONE ? square : tt_build2(&b, TT_OP_ADD, sum, square, 0, NULL);
  }
  if (sum == TT_NONE) return TT_PASS_UNCHANGED;
  b.loc = (tt_loc){.file = g->module->name, .node = "loss"};
  tt_value loss = tt_build2(&b, TT_OP_ADD, tt_graph_result(g, "loss"), scaled(&b, sum, lambda), 0, NULL);
  if (loss == TT_NONE) return TT_PASS_FAILED;
  tt_graph_set_result(g, "loss", loss);
  return TT_PASS_CHANGED;
}
