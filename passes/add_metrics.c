/* Adds what evaluation reports, on top of add_loss:
 *
 *   before:  results {loss, losses, logits}, input labels
 *   after:   results {loss, losses, logits, correct i32[B]} */
#include "passes/pass.h"

tt_pass_result tt_add_metrics(tt_graph *g, tt_pass_ctx *ctx) {
  tt_value logits = tt_graph_result(g, "logits"), labels = tt_graph_find_input(g, "labels");
  if (logits == TT_NONE || labels == TT_NONE) {
    tt_error(ctx->diag, (tt_loc){.file = g->module->name},
             "graph '%s' has no result 'logits' or no input 'labels'; add_loss makes both", g->name);
    return TT_PASS_FAILED;
  }
  tt_builder b = {.g = g, .diag = ctx->diag, .at = TT_NONE, .loc = {.file = g->module->name, .node = "metrics"}};
  tt_value correct = tt_build2(&b, TT_OP_CORRECT, logits, labels, 0, NULL);
  if (correct == TT_NONE) return TT_PASS_FAILED;
  tt_graph_set_result(g, "correct", correct);
  return TT_PASS_CHANGED;
}
