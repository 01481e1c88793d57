/* What the tracking passes share: which weights are tracked, and the vars that carry figures from step to step. */
#ifndef TT_TRACK_H
#define TT_TRACK_H
#include "passes/pass.h"

typedef struct tt_tracked {
  int n;
  bool quantized;        /* else no weight has a 4-bit form, and all that can be said is how weights move */
  const uint32_t *vars;  /* parameters, in the order of the module's vars */
} tt_tracked;
/* The weights that the forward quantizes; where it quantizes none, those of its linears. In scratch memory. */
tt_tracked tt_find_tracked(const tt_graph *g, tt_arena *scratch);

/* The tracking var `prefix``param`, of the parameter's type; zeros. */
uint32_t tt_track_var(tt_module *m, const char *prefix, uint32_t param);
/* The tracking var of that name; zeros. */
uint32_t tt_track_named_var(tt_module *m, const char *name, tt_type type);
/* track-rate [1 or 2, n+1]: sums over the window of each weight's, and last all weights', relative move; of W, then of Q(W). */
uint32_t tt_track_rate_var(tt_module *m, const tt_tracked *t);

/* x [n] or [n,k] with a row more: the sum of the others. */
tt_value tt_track_with_total(tt_builder *b, tt_value x);
/* The sum along an axis, which stays with one entry. */
tt_value tt_track_sum(tt_builder *b, tt_value x, int axis);
#endif
