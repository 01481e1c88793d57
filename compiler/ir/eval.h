/* The naive evaluator: the meaning of every op, in double (integers in int64) or exact MX arithmetic. Runs any graph. */
#ifndef TT_EVAL_H
#define TT_EVAL_H
#include "compiler/ir/graph.h"

/* One tensor during evaluation. Numeric values are kept as double ([count]) in `d` whatever their element type (i64
 * included: exact to 2^53, which shapes and seeds keep to), bools as 0/1; TT_MX values as their storage bytes in `mx`. */
typedef struct tt_tensor {
  tt_type type;
  double *d;
  uint8_t *mx;
} tt_tensor;

typedef struct tt_eval_ctx {
  const tt_graph *g;
  tt_node node;
  tt_op op; /* of the node, or of the step of an mx.fused that is being computed */
  tt_arena *arena; /* outputs live here */
  bool round_f32;  /* round every f32 result to float32 (default false: pure double) */
  int n_in, n_out;
  const tt_tensor *in;
  tt_tensor *out; /* types set, storage allocated and zeroed by the driver */
} tt_eval_ctx;
typedef void tt_eval_fn(tt_eval_ctx *c);
extern tt_eval_fn *const tt_eval_table[TT_OP_COUNT];

/* Makes what a rule computed in double numbers of the element type; f32 only where round_f32. */
void tt_tensor_settle(tt_tensor *t, bool round_f32);

/* Conversions between a tensor and raw bytes in its element type. */
tt_tensor tt_tensor_new(tt_arena *arena, tt_type type);
tt_tensor tt_tensor_from_bytes(tt_arena *arena, tt_type type, const void *bytes);
void tt_tensor_to_bytes(const tt_tensor *t, void *bytes); /* f32 rounded to nearest */

/* Evaluates all live nodes. `inputs` is parallel to g->inputs, `vars` to module->vars (updated in place by the graph's
 * updates; NULL uses initial values and drops updates). results[] is parallel to g->results. All memory in `arena`. */
void tt_eval_graph(const tt_graph *g, const tt_tensor *inputs, tt_tensor *vars, tt_tensor *results, bool round_f32,
                   tt_arena *arena);
tt_tensor tt_var_initial(tt_arena *arena, const tt_module *m, uint32_t var);

/* Constant folding: where all operands of n are CONST (or n is `shape`), evaluates it, replaces its outputs by constants,
 * removes it and returns true. A STOCH or INPLACE node, or a result over `max_bytes`, is left alone. */
bool tt_fold_node(tt_graph *g, tt_node n, size_t max_bytes);
#endif
