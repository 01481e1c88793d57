/* Gradient rules: one function per distinct name in the grad column of ops.def, in grad_*.c. A rule reads the node's
 * operands, results and the gradients of its results, builds the backward subgraph with the helpers below and hands every
 * operand its share. The gradient of an f32 value has its shape; that of an mx[R,K] value is f32[R,K] (straight-through).
 */
#ifndef TT_GRAD_H
#define TT_GRAD_H
#include "compiler/ir/graph.h"

typedef struct tt_grad_state tt_grad_state; /* autodiff.c */
typedef struct tt_grad_ctx {
  tt_builder *b;
  tt_graph *g;
  tt_node node;
  int n_in, n_out;
  const tt_value *in, *out; /* of the node; stay valid while the rule builds */
  const tt_value *dy;       /* gradient of each output, TT_NONE where none */
  tt_grad_state *state;
} tt_grad_ctx;

/* False after a diagnostic. */
typedef bool tt_grad_fn(tt_grad_ctx *c);
extern tt_grad_fn *const tt_grad_table[TT_OP_COUNT];

#define TT_OP(id, name, min_in, max_in, n_out, flags, shape, eval, grad, emit, work) tt_grad_fn tt_grad_##grad;
#include "compiler/ir/ops.def"
#undef TT_OP

/* True where operand i lies on a path from a parameter: only then need its gradient be built. */
bool tt_back_wants(const tt_grad_ctx *c, int i);
/* Adds dx, of operand i's shape, to its gradient. False where dx is TT_NONE (a builder has reported why). */
bool tt_back_add(tt_grad_ctx *c, int i, tt_value dx);
/* The same for an operand that was broadcast: sums dx over the broadcast axes first. */
bool tt_back_add_broadcast(tt_grad_ctx *c, int i, tt_value dx);

/* Small building blocks, all f32; TT_NONE in, TT_NONE out. */
tt_value tt_back_reshape(tt_grad_ctx *c, tt_value x, const tt_type *shape); /* x itself where the shapes are equal */
tt_value tt_back_matrix(tt_grad_ctx *c, tt_value x);                        /* [..,K] as [rows,K] */
tt_value tt_back_scale(tt_grad_ctx *c, tt_value x, double factor);
tt_value tt_back_sum_to(tt_grad_ctx *c, tt_value x, const tt_type *shape); /* inverse of broadcasting */
tt_value tt_back_matmul(tt_grad_ctx *c, tt_value a, bool trans_a, tt_value b, bool trans_b);

/* A node equal to one this backward pass has built already: two linears that share an operand share its requantized copy
 * too, though each would draw its own random numbers (which is why cse cannot see it). */
tt_value tt_back_shared_quantize(tt_grad_ctx *c, tt_op op, tt_value x, tt_qspec q, bool transpose);

/* Builds mx.quantize or mx.requantize; the random input and a new tensor id are added where rounding is stochastic.
 * `transpose` is mx.quantize's attribute. */
tt_value tt_build_mx_quantize(tt_builder *b, tt_op op, tt_value x, tt_qspec q, bool transpose);
/* What the forward makes of a weight under Q2, mx; TT_NONE where it does not quantize it. Then its values, in the weight's
 * shape. */
tt_value tt_quantized_weight(const tt_graph *g, uint32_t var);
tt_value tt_build_quantized_values(tt_builder *b, uint32_t var);
tt_value tt_build_values(tt_builder *b, tt_value mx, const tt_type *type); /* dequantized, in the shape of `type` */
/* The state var `prefix``param`, of the parameter's type, made at first use; starts as a copy of var `copy_of`, or zero. */
uint32_t tt_state_var(tt_module *m, const char *prefix, uint32_t param, uint32_t copy_of);
#endif
