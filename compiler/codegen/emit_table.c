/* The emit column of the op table. */
#include "compiler/codegen/cg.h"

#define TT_OP(id, name, lo, hi, n, flags, shape, eval, grad, emit, work) cg_emit_fn cg_emit_##emit;
#include "compiler/ir/ops.def"
#undef TT_OP

#define cg_emit_none NULL /* from here on: the declaration above is of a function that does not exist */
cg_emit_fn *const cg_emit_table[TT_OP_COUNT] = {
#define TT_OP(id, name, lo, hi, n, flags, shape, eval, grad, emit, work) cg_emit_##emit,
#include "compiler/ir/ops.def"
#undef TT_OP
};
