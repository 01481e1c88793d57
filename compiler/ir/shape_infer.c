/* Shape inference: the dispatch over the op table and the checks that rules share. */
#include <stdarg.h>
#include <stdio.h>
#include "compiler/ir/shape.h"

tt_shape_rule *const tt_shape_table[TT_OP_COUNT] = {
#define TT_OP(id, name, min_in, max_in, n_out, flags, shape, eval, grad, emit, work) [TT_OP_##id] = tt_shape_##shape,
#include "compiler/ir/ops.def"
#undef TT_OP
};

bool tt_shape_fail(tt_shape_ctx *c, const char *fmt, ...) {
  char text[1024];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  tt_error(c->diag, c->loc, "%s", text);
  return false;
}

bool tt_shape_mismatch(tt_shape_ctx *c, int i, const char *fmt, ...) {
  char expected[512], type[TT_TYPE_TEXT];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(expected, sizeof expected, fmt, ap);
  va_end(ap);
  return tt_shape_fail(c, "input %d is %s, expected %s", i, tt_type_print(tt_shape_in(c, i), type, sizeof type), expected);
}

bool tt_shape_numeric(tt_shape_ctx *c, int i) {
  uint8_t dtype = tt_shape_in(c, i)->dtype;
  return (dtype != TT_BOOL && dtype != TT_MX) || tt_shape_mismatch(c, i, "numbers");
}

bool tt_shape_dense(tt_shape_ctx *c, int i) {
  return tt_shape_in(c, i)->dtype != TT_MX || tt_shape_mismatch(c, i, "unpacked elements");
}

bool tt_shape_f32(tt_shape_ctx *c, int i, int rank) {
  const tt_type *t = tt_shape_in(c, i);
  if (t->dtype != TT_F32) return tt_shape_mismatch(c, i, "f32");
  if (rank < 0) return t->rank > 0 || tt_shape_mismatch(c, i, "at least one dimension");
  return t->rank == rank || tt_shape_mismatch(c, i, "%d dimension%s", rank, rank == 1 ? "" : "s");
}

bool tt_shape_f32_dims(tt_shape_ctx *c, int i, int rank, const int64_t *dim) {
  char text[TT_TYPE_TEXT];
  tt_type want = tt_type_make(TT_F32, rank, dim);
  if (tt_type_equal(tt_shape_in(c, i), &want)) return true;
  return tt_shape_mismatch(c, i, "%s", tt_type_print(&want, text, sizeof text));
}

bool tt_shape_same(tt_shape_ctx *c, int i, int j) {
  char text[TT_TYPE_TEXT];
  const tt_type *want = tt_shape_in(c, j);
  if (tt_type_equal(tt_shape_in(c, i), want)) return true;
  return tt_shape_mismatch(c, i, "%s as input %d", tt_type_print(want, text, sizeof text), j);
}

bool tt_shape_is_mx(tt_shape_ctx *c, int i) {
  return tt_shape_in(c, i)->dtype == TT_MX || tt_shape_mismatch(c, i, "an mx matrix");
}

const tt_attr *tt_shape_attr(const tt_shape_ctx *c, tt_attr_id id) {
  for (int i = 0; i < c->n_attrs; i++) {
    if (c->attrs[i].id == id) return &c->attrs[i];
  }
  return NULL;
}

int64_t tt_shape_int(const tt_shape_ctx *c, tt_attr_id id) {
  const tt_attr *a = tt_shape_attr(c, id);
  return a ? a->as.i : 0;
}

double tt_shape_float(const tt_shape_ctx *c, tt_attr_id id) {
  const tt_attr *a = tt_shape_attr(c, id);
  return a ? a->as.f : 0;
}

const tt_attr *tt_shape_ints(tt_shape_ctx *c, tt_attr_id id, int n) {
  const char *name = tt_attrs[id].name;
  const tt_attr *a = tt_shape_attr(c, id);
  if (!a) {
    tt_shape_fail(c, "attribute '%s' is missing", name);
    return NULL;
  }
  if (n >= 0 && a->as.ints.n != n) {
    tt_shape_fail(c, "attribute '%s' has %d entries, expected %d", name, a->as.ints.n, n);
    return NULL;
  }
  if (a->as.ints.n > TT_MAX_RANK) {
    tt_shape_fail(c, "attribute '%s' has %d entries, at most %d are supported", name, a->as.ints.n, TT_MAX_RANK);
    return NULL;
  }
  return a;
}

bool tt_shape_flag(tt_shape_ctx *c, tt_attr_id id) {
  int64_t v = tt_shape_int(c, id);
  return v == 0 || v == 1 || tt_shape_fail(c, "attribute '%s' is %lld, expected 0 or 1", tt_attrs[id].name, (long long)v);
}

bool tt_shape_axis(tt_shape_ctx *c, int rank, int64_t *axis) {
  *axis = tt_shape_int(c, TT_A_AXIS);
  if (*axis >= 0 && *axis < rank) return true;
  return tt_shape_fail(c, "attribute 'axis' is %lld, expected 0 to %d for input 0 of rank %d", (long long)*axis, rank - 1,
                       rank);
}

/* A zero dimension counts as one here, so that every partial product of a type that fits is safe too. */
static bool size_fits(const tt_type *t) {
  int64_t count = 1;
  for (int d = 0; d < t->rank; d++) {
    if (t->dim[d] > TT_MAX_ELEMENTS / count) return false;
    if (t->dim[d] > 0) count *= t->dim[d];
  }
  return true;
}

bool tt_shape_from_attr(tt_shape_ctx *c, const tt_attr *a, uint8_t dtype, tt_type *out) {
  for (int d = 0; d < a->as.ints.n; d++) {
    int64_t dim = a->as.ints.v[d];
    if (dim < 0 || dim > TT_MAX_ELEMENTS)
      return tt_shape_fail(c, "attribute '%s' has dimension %lld at %d, expected a known size", tt_attrs[a->id].name,
                           (long long)dim, d);
  }
  *out = tt_type_make((tt_dtype)dtype, a->as.ints.n, a->as.ints.v);
  return size_fits(out) || tt_shape_fail(c, "attribute '%s' asks for too many elements", tt_attrs[a->id].name);
}

static bool check_operand_count(tt_shape_ctx *c) {
  const tt_op_info *info = &tt_ops[c->op];
  if (c->n_in >= info->min_in && (info->max_in < 0 || c->n_in <= info->max_in)) return true;
  if (info->max_in < 0)
    return tt_shape_fail(c, "%s has %d inputs, expected at least %d", info->name, c->n_in, info->min_in);
  if (info->max_in == info->min_in)
    return tt_shape_fail(c, "%s has %d inputs, expected %d", info->name, c->n_in, info->min_in);
  return tt_shape_fail(c, "%s has %d inputs, expected %d to %d", info->name, c->n_in, info->min_in, info->max_in);
}

bool tt_infer(const tt_graph *g, tt_op op, int n_in, const tt_value *in, int n_attrs, const tt_attr *attrs, tt_type *out,
              int *n_out, tt_loc loc, tt_diag *diag) {
  TT_ASSERT((unsigned)op < TT_OP_COUNT);
  if (!loc.op) loc.op = tt_ops[op].name;
  tt_shape_ctx c = {.g = g,
                    .op = op,
                    .n_in = n_in,
                    .n_attrs = n_attrs,
                    .in = in,
                    .attrs = attrs,
                    .out = out,
                    .n_out = tt_ops[op].n_out,
                    .loc = loc,
                    .diag = diag};
  for (int i = 0; i < n_in; i++) TT_ASSERT(in[i] < g->values.count);
  TT_TRY(check_operand_count(&c));
  TT_TRY(tt_shape_table[op](&c));
  TT_ASSERT(c.n_out > 0 && c.n_out <= TT_MAX_OUT);
  for (int i = 0; i < c.n_out; i++) {
    char text[TT_TYPE_TEXT];
    if (!size_fits(&out[i])) return tt_shape_fail(&c, "result %s is too big", tt_type_print(&out[i], text, sizeof text));
  }
  *n_out = c.n_out;
  return true;
}
