/* Small questions that rewriting passes ask of a graph, and the walk they share.
 *
 * A pass that rewrites by pattern works in rounds: it walks the nodes from last to first, so the longest spelling of a
 * pattern is met before its parts, replaces what matches, sweeps what died, and goes round again until nothing matches. Use
 * counts follow the rewrites: nodes that a rewrite has left without use are skipped and no longer count as users. Values
 * made in the round itself count as shared, so a match may wait for the next round but is never made wrongly. */
#ifndef TT_MATCH_H
#define TT_MATCH_H
#include "passes/pass.h"

typedef struct tt_match {
  tt_graph *g;
  tt_pass_ctx *ctx;
  uint32_t *uses; /* by value, for the values there were at the start of the round */
  size_t n_values;
} tt_match;

/* One node tried: returns true where it rewrote something. The node may be gone afterwards. */
typedef bool tt_match_fn(tt_match *m, tt_node n);
/* Tries every used node of `op` (TT_OP_COUNT: of any op), in rounds as said above. */
tt_pass_result tt_match_run(tt_graph *g, tt_pass_ctx *ctx, tt_op op, tt_match_fn *try_node);

/* Whether any output of n is used. */
bool tt_match_used(const tt_match *m, tt_node n);
/* True where v is used exactly once. */
bool tt_match_sole(const tt_match *m, tt_value v);
/* A builder that puts nodes before n and gives them n's location. */
tt_builder tt_match_builder(const tt_match *m, tt_node n);
/* All of output 0's uses now take `by` (false where TT_NONE: building has failed and was reported). */
bool tt_match_replace(tt_match *m, tt_node n, tt_value by);

/* Operand 0 of the node that defines v where its op is `op`, else TT_NONE. */
tt_value tt_match_unary(const tt_graph *g, tt_value v, tt_op op);
/* v is op(a, b) of any order where b is a constant of one number: a and the number. */
bool tt_match_with_scalar(const tt_graph *g, tt_value v, tt_op op, tt_value *a, double *number);
/* v = factor * x with x of v's type; through one mul or div by a constant of one number. */
bool tt_match_scaled(const tt_graph *g, tt_value v, tt_value *x, double *factor);
/* Whether a constant read from float32 text or arithmetic is meant to be `want`. */
bool tt_match_near(double x, double want);
bool tt_match_same_type(const tt_graph *g, tt_value a, tt_value b);

/* reshape to `type`, or x itself where it has that type. */
tt_value tt_match_reshape(tt_builder *b, tt_value x, const tt_type *type);
/* v is a var that this graph alone sees, so its layout may change. */
bool tt_match_owned_var(const tt_match *m, tt_value v);
/* Gives an owned var another type. */
void tt_match_retype_var(tt_graph *g, tt_value v, tt_type type);
#endif
