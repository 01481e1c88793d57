/* Private to compiler/ir: the evaluation rules of ops.def's column and what they share. A rule reads c->in, writes c->out
 * (typed, allocated, zeroed) and leaves rounding to the driver. */
#ifndef TT_EVAL_RULES_H
#define TT_EVAL_RULES_H
#include "compiler/ir/eval.h"

#define TT_OP(id, name, min_in, max_in, n_out, flags, shape, eval, grad, emit, work) tt_eval_fn tt_eval_##eval;
#include "compiler/ir/ops.def"
#undef TT_OP

static inline tt_op tt_eval_op(const tt_eval_ctx *c) { return c->op; }
static inline int64_t tt_eval_int(const tt_eval_ctx *c, tt_attr_id id) { return tt_node_int(c->g, c->node, id); }
static inline double tt_eval_float(const tt_eval_ctx *c, tt_attr_id id) { return tt_node_float(c->g, c->node, id); }
/* Entries of an INTS attribute, which must be there. */
const int64_t *tt_eval_ints(const tt_eval_ctx *c, tt_attr_id id);

/* What mx.quantize (nearest or stochastic) and mx.colsum make, for the ops that do the same beside other things. */
void tt_eval_quantized(tt_arena *arena, tt_qspec q, const tt_tensor *x, bool transposed, const tt_tensor *rng, int64_t tensor,
                       tt_tensor *out);
void tt_eval_column_sums(tt_arena *arena, const tt_tensor *mx, tt_tensor *sums);

/* Row-major coordinates of element `index` of t, and back. */
void tt_coords(const tt_type *t, int64_t index, int64_t *coord);
int64_t tt_offset(const tt_type *t, const int64_t *coord);
/* The element of x that element `index` of `out` reads where x is broadcast to out. */
int64_t tt_broadcast_offset(const tt_type *out, int64_t index, const tt_type *x);
#endif
