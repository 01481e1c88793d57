/* The end of a calibration of Q-Ramping (arXiv 2502.20853, algorithm 2): how long each weight shall collect gradients.
 *
 *   before:  an empty graph
 *   after:   input period_max []; for each parameter w with a measured path, as result "ramp-period:<w>",
 *              min(k2 floor(R / k1) + 1, period_max),   R = qpath / (path + 1e-8)
 *
 * They are results and no updates, because the runtime first takes every var back to where the calibration began, and then
 * copies them into the vars of that name. Runs after add_distances has made the paths. */
#include "passes/pass.h"

static tt_value with_const(tt_builder *b, tt_op op, tt_value x, double y) {
  return tt_build2(b, op, x, tt_graph_const_f32(b->g, (float)y), 0, NULL);
}

static tt_value period(tt_builder *b, const tt_recipe *r, tt_value path, tt_value qpath, tt_value most) {
  tt_value ratio = tt_build2(b, TT_OP_DIV, qpath, with_const(b, TT_OP_ADD, path, 1e-8), 0, NULL);
  tt_value level = tt_build1(b, TT_OP_FLOOR, with_const(b, TT_OP_DIV, ratio, r->ramp_k1), 0, NULL);
  tt_value steps = with_const(b, TT_OP_ADD, with_const(b, TT_OP_MUL, level, (double)r->ramp_k2), 1);
  return tt_build2(b, TT_OP_MIN, steps, most, 0, NULL);
}

tt_pass_result tt_add_periods(tt_graph *g, tt_pass_ctx *ctx) {
  tt_module *m = g->module;
  tt_builder b = {.g = g, .diag = ctx->diag, .at = TT_NONE};
  tt_value most = TT_NONE;
  for (size_t i = 0; i < m->vars.count; i++) {
    const char *name = m->vars.data[i].name;
    uint32_t path = tt_module_find_var(m, tt_arena_printf(ctx->scratch, "ramp-path:%s", name));
    uint32_t qpath = tt_module_find_var(m, tt_arena_printf(ctx->scratch, "ramp-qpath:%s", name));
    if (path == TT_NONE || qpath == TT_NONE) continue;
    if (most == TT_NONE) most = tt_graph_add_input(g, "period_max", tt_type_scalar(TT_F32));
    b.loc = (tt_loc){.file = m->name, .node = name};
    tt_value n = period(&b, ctx->recipe, tt_graph_var(g, path), tt_graph_var(g, qpath), most);
    if (n == TT_NONE) return TT_PASS_FAILED;
    tt_graph_set_result(g, tt_arena_printf(g->arena, "ramp-period:%s", name), n);
  }
  return most == TT_NONE ? TT_PASS_UNCHANGED : TT_PASS_CHANGED;
}
