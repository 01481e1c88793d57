/* Checks every invariant of a graph: definitions dominate uses, types equal what shape rules say, links are consistent,
 * updates fit their vars, in-place operands are not used after they are overwritten. Reports each fault through diag
 * beside the offending node's text; false where any. Run by the pass manager after every pass, in every build. */
#ifndef TT_VERIFY_H
#define TT_VERIFY_H
#include "compiler/ir/graph.h"
bool tt_verify(const tt_graph *g, tt_diag *diag);
#endif
