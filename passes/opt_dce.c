/* Removes nodes none of whose outputs reaches a result or an update.
 *
 *   %1 = exp %0          (no use)
 *   %2 = neg %0                        %2 = neg %0
 *   result "y" %2                      result "y" %2
 *
 * Requires and breaks nothing. */
#include "passes/pass.h"

tt_pass_result tt_opt_dce(tt_graph *g, tt_pass_ctx *ctx) {
  (void)ctx;
  return tt_graph_sweep(g) > 0 ? TT_PASS_CHANGED : TT_PASS_UNCHANGED;
}
