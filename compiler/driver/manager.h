/* The pass manager: orders passes (pipelines.def), verifies after each, times, dumps and skips. Environment:
 *   TETRAC_PRINT_AFTER=<pass>|all|changed   dumps the graph to stderr
 *   TETRAC_SKIP=<pass>[,<pass>...]          leaves passes out (for bisection)
 *   TETRAC_TIME=1                           one line a pass on stderr */
#ifndef TT_MANAGER_H
#define TT_MANAGER_H
#include "passes/pass.h"

typedef struct tt_manager {
  const tt_recipe *recipe;
  tt_diag *diag;
  const char *stop_after; /* pass after which tt_run_pipeline stops; NULL: none */
  bool stopped;           /* set once that pass ran */
} tt_manager;

/* False after diagnostics: the pass failed, or left a graph that does not verify. */
bool tt_run_pass(tt_manager *m, tt_graph *g, const tt_pass_info *pass);
bool tt_run_pipeline(tt_manager *m, tt_graph *g, const char *pipeline);
#endif
