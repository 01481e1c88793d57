/* Q-Ramping's training step (arXiv 2502.20853, algorithm 2): quantized weights collect gradients over periods.
 *
 *   before:  w', m', v' = adamw(w, m, v, g, coef, lr, bc1, bc2)
 *   after:   w', m', v', sum', count' = adamw_ramp(w, m, v, sum, count, period, g, coef, lr, bc1, bc2)
 *
 * for each parameter w with a 4-bit form; state vars ramp-sum:<w>, ramp-count:<w>, ramp-period:<w>. Only a calibration
 * changes periods (add_periods), and before the first they are 0, which adamw_ramp takes as 1. Runs after add_optimizer. */
#include "passes/grad.h"
#include "passes/pass.h"
#include <string.h>

static bool ramp(tt_builder *b, tt_node n, uint32_t var) {
  static const char *const prefix[] = {"ramp-sum:", "ramp-count:", "ramp-period:"};
  tt_graph *g = b->g;
  const tt_node_data d = *tt_nod(g, n);
  uint32_t vars[3];
  tt_value in[11];
  memcpy(in, d.in, 3 * sizeof *in);
  for (int i = 0; i < 3; i++) {
    vars[i] = tt_state_var(g->module, prefix[i], var, TT_NONE);
    in[3 + i] = tt_graph_var(g, vars[i]);
  }
  memcpy(in + 6, d.in + 3, 5 * sizeof *in);
  b->at = n;
  b->loc = d.loc;
  tt_node step = tt_build(b, TT_OP_ADAMW_RAMP, 11, in, d.n_attrs, d.attrs);
  TT_TRY(step != TT_NONE);
  for (int i = 0; i < 3; i++) tt_graph_replace(g, d.out[i], tt_nod(g, step)->out[i]);
  tt_node_remove(g, n);
  for (int i = 0; i < 2; i++) tt_graph_add_update(g, vars[i], tt_nod(g, step)->out[3 + i]);
  return true;
}

tt_pass_result tt_add_ramping(tt_graph *g, tt_pass_ctx *ctx) {
  if (ctx->recipe->control != TT_CONTROL_RAMP) return TT_PASS_UNCHANGED;
  tt_pass_result result = TT_PASS_UNCHANGED;
  tt_builder b = {.g = g, .diag = ctx->diag};
  for (tt_node n = g->first, next; n != TT_NONE; n = next) {
    next = tt_nod(g, n)->next;
    if (tt_nod(g, n)->op != TT_OP_ADAMW) continue;
    const tt_value_data *w = tt_val(g, tt_nod(g, n)->in[0]);
    if (w->kind != TT_VALUE_VAR || tt_quantized_weight(g, w->index) == TT_NONE) continue;
    if (!ramp(&b, n, w->index)) return TT_PASS_FAILED;
    result = TT_PASS_CHANGED;
  }
  return result;
}
