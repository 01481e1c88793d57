/* What plan_memory decided, for tests and reports. Sizes are in bytes. A graph need be planned for tt_plan_check and
 * tt_plan_report alone: the others count what is live when, whatever its place. */
#ifndef TT_PLAN_MEMORY_H
#define TT_PLAN_MEMORY_H
#include "compiler/ir/graph.h"
#include "compiler/support/strbuf.h"

/* Checks a planned graph: every used value has a place inside its space, aligned to 64 bytes; no two values that are live
 * at the same time share a byte of the arena; aliases and in-place results lie where their operand lies; a var is not read
 * after it was overwritten. False after diagnostics. */
bool tt_plan_check(const tt_graph *g, tt_diag *diag);
/* The sum of all arena values' sizes: what the step would need if nothing were reused. */
uint64_t tt_plan_unshared_bytes(const tt_graph *g);
/* The most that is live at once: no plan can be smaller. */
uint64_t tt_plan_peak_bytes(const tt_graph *g);
/* What is live where most is, as text (plan_report.c). */
void tt_plan_report(const tt_graph *g, tt_strbuf *out);
/* What the backward pass takes over from the forward one: bytes made up to the loss and needed behind it, but inputs and
 * results. 0 where the graph has no loss. */
uint64_t tt_plan_saved_bytes(const tt_graph *g);
#endif
