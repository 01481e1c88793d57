/* Passes. A pass is a file, a name and a row of passes.def:
 *   tt_pass_result tt_opt_cse(tt_graph *g, tt_pass_ctx *ctx);
 * It changes one graph in place and says whether it did. The manager (compiler/driver) alone orders them (pipelines.def),
 * verifies, times, dumps and skips; a pass that meets a user's error reports to ctx->diag and returns TT_PASS_FAILED. */
#ifndef TT_PASS_H
#define TT_PASS_H
#include "compiler/ir/graph.h"
#include "passes/recipe.h"

/* FAILED: diagnostics were given, and the graph is not to be used further. */
typedef enum { TT_PASS_UNCHANGED, TT_PASS_CHANGED, TT_PASS_FAILED } tt_pass_result;
typedef struct tt_pass_ctx {
  tt_diag *diag;
  const tt_recipe *recipe; /* never NULL; fp32's defaults where the user named none */
  tt_arena *scratch;       /* emptied after the pass */
  const char *pass;        /* name, for messages */
} tt_pass_ctx;
typedef tt_pass_result tt_pass_fn(tt_graph *g, tt_pass_ctx *ctx);
typedef struct tt_pass_info {
  const char *name;
  tt_pass_fn *run;
  const char *what; /* one line for `tetrac list passes` */
} tt_pass_info;
extern const tt_pass_info tt_passes[];
extern const int tt_pass_count;
const tt_pass_info *tt_pass_find(const char *name); /* NULL where absent */

/* Pipelines are data: rows of pipelines.def, pass names in order. */
typedef struct tt_pipeline {
  const char *name; /* of the graph it is for: "forward", "train", ... */
  const char *const *passes;
  int count;
} tt_pipeline;
extern const tt_pipeline tt_pipelines[];
extern const int tt_pipeline_count;
#endif
