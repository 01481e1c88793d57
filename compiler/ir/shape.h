/* Private to compiler/ir: what the shape rules share. A rule reads operand types and attributes and fills the result
 * types; whatever does not fit is a diagnostic that names the operand, its type and the type expected. */
#ifndef TT_SHAPE_H
#define TT_SHAPE_H
#include "compiler/ir/graph.h"

typedef struct tt_shape_ctx {
  const tt_graph *g;
  tt_op op;
  int n_in, n_attrs;
  const tt_value *in;
  const tt_attr *attrs;
  const tt_type *chained; /* type of operand 0 where that is no value: of a step of mx.fused behind a product; else NULL */
  tt_type *out;           /* TT_MAX_OUT entries */
  int n_out;              /* preset from the op table; a rule sets it where the table says -1 */
  tt_loc loc;
  tt_diag *diag;
} tt_shape_ctx;
typedef bool tt_shape_rule(tt_shape_ctx *c);
extern tt_shape_rule *const tt_shape_table[TT_OP_COUNT];

static inline const tt_type *tt_shape_in(const tt_shape_ctx *c, int i) {
  return i == 0 && c->chained ? c->chained : tt_typ(c->g, c->in[i]);
}

/* Both report and return false, so that a rule can `return tt_shape_fail(...)`. */
bool tt_shape_fail(tt_shape_ctx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "input I is TYPE, expected EXPECTED" */
bool tt_shape_mismatch(tt_shape_ctx *c, int i, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Operand checks; false after a diagnostic. */
bool tt_shape_numeric(tt_shape_ctx *c, int i);       /* neither bool nor mx */
bool tt_shape_dense(tt_shape_ctx *c, int i);         /* anything but mx */
bool tt_shape_f32(tt_shape_ctx *c, int i, int rank); /* f32 of that rank; rank -1: any but scalar */
bool tt_shape_f32_dims(tt_shape_ctx *c, int i, int rank, const int64_t *dim);
bool tt_shape_same(tt_shape_ctx *c, int i, int j); /* operand i has exactly the type of operand j */
bool tt_shape_is_mx(tt_shape_ctx *c, int i);

/* Attributes. */
const tt_attr *tt_shape_attr(const tt_shape_ctx *c, tt_attr_id id); /* NULL where absent */
int64_t tt_shape_int(const tt_shape_ctx *c, tt_attr_id id);         /* 0 where absent */
double tt_shape_float(const tt_shape_ctx *c, tt_attr_id id);
/* n entries (-1: up to TT_MAX_RANK), or NULL after a diagnostic. */
const tt_attr *tt_shape_ints(tt_shape_ctx *c, tt_attr_id id, int n);
bool tt_shape_flag(tt_shape_ctx *c, tt_attr_id id);           /* false after a diagnostic unless absent, 0 or 1 */
bool tt_shape_axis(tt_shape_ctx *c, int rank, int64_t *axis); /* attribute axis in [0, rank) */
/* A dense type from an attribute's dimensions; false after a diagnostic on a negative one. */
bool tt_shape_from_attr(tt_shape_ctx *c, const tt_attr *a, uint8_t dtype, tt_type *out);

#define TT_OP(id, name, min_in, max_in, n_out, flags, shape, eval, grad, emit, work) tt_shape_rule tt_shape_##shape;
#include "compiler/ir/ops.def"
#undef TT_OP
#endif
