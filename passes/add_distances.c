/* A calibration step of Q-Ramping (arXiv 2502.20853, algorithm 2): plain AdamW, and how far weights and 4-bit values go.
 *
 *   before:  w', m', v' = adamw(w, m, v, ...)
 *   after:   the same, and behind it
 *              path'  = path  + |w' - w|                  state var ramp-path:<w>
 *              qpath' = qpath + |Q2(w') - Q2(w)|          state var ramp-qpath:<w>
 *
 * for each parameter w with a 4-bit form. Q2(w) is what this step's forward has used; w itself is gone once adamw has
 * written over it, so -w is kept across. Both paths are 0 outside a calibration, which ends with all vars put back. Runs
 * after add_optimizer. */
#include "passes/grad.h"
#include "passes/pass.h"

/* The state var `prefix``param` goes on by |step|. */
static bool add_way(tt_builder *b, const char *prefix, uint32_t param, tt_value step) {
  uint32_t var = tt_state_var(b->g->module, prefix, param, TT_NONE);
  tt_value way = tt_build1(b, TT_OP_ABS, step, 0, NULL);
  tt_value sum = tt_build2(b, TT_OP_ADD, tt_graph_var(b->g, var), way, 0, NULL);
  TT_TRY(sum != TT_NONE);
  tt_graph_add_update(b->g, var, sum);
  return true;
}

static bool measure(tt_builder *b, tt_node n, uint32_t var, tt_value quantized) {
  tt_graph *g = b->g;
  const tt_node_data d = *tt_nod(g, n);
  const tt_type type = *tt_typ(g, d.in[0]);
  const tt_qspec q = tt_node_qspec(g, tt_val(g, quantized)->def, TT_A_Q);
  b->loc = d.loc;
  b->at = n;
  tt_value minus = tt_build1(b, TT_OP_NEG, d.in[0], 0, NULL);
  b->at = d.next;
  TT_TRY(add_way(b, "ramp-path:", var, tt_build2(b, TT_OP_ADD, d.out[0], minus, 0, NULL)));
  tt_value before = tt_build_values(b, quantized, &type);
  tt_value after = tt_build_mx_quantize(b, TT_OP_MX_QUANTIZE, d.out[0], q, false);
  TT_TRY(after != TT_NONE);
  return add_way(b, "ramp-qpath:", var, tt_build2(b, TT_OP_SUB, tt_build_values(b, after, &type), before, 0, NULL));
}

tt_pass_result tt_add_distances(tt_graph *g, tt_pass_ctx *ctx) {
  tt_pass_result result = TT_PASS_UNCHANGED;
  tt_builder b = {.g = g, .diag = ctx->diag};
  for (tt_node n = g->first, next; n != TT_NONE; n = next) {
    next = tt_nod(g, n)->next;
    if (tt_nod(g, n)->op != TT_OP_ADAMW) continue;
    const tt_value_data *w = tt_val(g, tt_nod(g, n)->in[0]);
    tt_value quantized = w->kind == TT_VALUE_VAR ? tt_quantized_weight(g, w->index) : TT_NONE;
    if (quantized == TT_NONE) continue;
    if (!measure(&b, n, w->index, quantized)) return TT_PASS_FAILED;
    result = TT_PASS_CHANGED;
  }
  return result;
}
