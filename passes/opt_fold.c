/* Replaces every node whose operands are constants by the constant it computes, and `shape` by the shape.
 *
 *   %3 = where (const mask), (const 0), (const -inf)         const [..]
 *
 * Nodes are visited in execution order, so one walk folds whole chains. A result over LIMIT stays computed: a broadcast
 * of one number can be larger than the model. Stochastic nodes are never constant. */
#include "compiler/ir/eval.h"
#include "passes/pass.h"

/* Attention masks are the largest that exporters write: [batch, 1, tokens, tokens]. */
static const size_t LIMIT = (size_t)64 << 20;

tt_pass_result tt_opt_fold(tt_graph *g, tt_pass_ctx *ctx) {
  bool changed = false;
  for (tt_node n = g->first; n != TT_NONE;) {
    const tt_node next = tt_nod(g, n)->next;
    tt_assert_context(ctx->pass, tt_nod(g, n)->loc.node);
    changed |= tt_fold_node(g, n, LIMIT);
    n = next;
  }
  tt_assert_context(ctx->pass, NULL);
  return changed ? TT_PASS_CHANGED : TT_PASS_UNCHANGED;
}
