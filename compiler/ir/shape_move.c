/* Shape rules of ops that move elements, and of reductions. */
#include "compiler/ir/shape.h"

bool tt_shape_shape_of(tt_shape_ctx *c) {
  TT_TRY(tt_shape_dense(c, 0));
  c->out[0] = tt_type_make(TT_I64, 1, (int64_t[]){tt_shape_in(c, 0)->rank});
  return true;
}

bool tt_shape_reshape(tt_shape_ctx *c) {
  char text[TT_TYPE_TEXT];
  TT_TRY(tt_shape_dense(c, 0));
  const tt_type *x = tt_shape_in(c, 0);
  const tt_attr *shape = tt_shape_ints(c, TT_A_SHAPE, -1);
  TT_TRY(shape && tt_shape_from_attr(c, shape, x->dtype, &c->out[0]));
  if (tt_type_count(&c->out[0]) == tt_type_count(x)) return true;
  return tt_shape_mismatch(c, 0, "as many elements as %s", tt_type_print(&c->out[0], text, sizeof text));
}

/* x [d0, d1, ...] -> [d_perm[0], d_perm[1], ...] */
bool tt_shape_transpose(tt_shape_ctx *c) {
  TT_TRY(tt_shape_dense(c, 0));
  const tt_type *x = tt_shape_in(c, 0);
  const tt_attr *perm = tt_shape_ints(c, TT_A_PERM, x->rank);
  TT_TRY(perm);
  bool seen[TT_MAX_RANK] = {false};
  c->out[0] = *x;
  for (int d = 0; d < x->rank; d++) {
    int64_t p = perm->as.ints.v[d];
    if (p < 0 || p >= x->rank || seen[p])
      return tt_shape_fail(c, "attribute 'perm' has %lld at %d: not a permutation of %d dimensions", (long long)p, d,
                           x->rank);
    seen[p] = true;
    c->out[0].dim[d] = x->dim[p];
  }
  return true;
}

bool tt_shape_slice(tt_shape_ctx *c) {
  TT_TRY(tt_shape_dense(c, 0));
  const tt_type *x = tt_shape_in(c, 0);
  const tt_attr *starts = tt_shape_ints(c, TT_A_STARTS, x->rank);
  TT_TRY(starts);
  const tt_attr *ends = tt_shape_ints(c, TT_A_ENDS, x->rank);
  TT_TRY(ends);
  const tt_attr *steps = tt_shape_ints(c, TT_A_STEPS, x->rank);
  TT_TRY(steps);
  c->out[0] = *x;
  for (int d = 0; d < x->rank; d++) {
    int64_t start = starts->as.ints.v[d], end = ends->as.ints.v[d], step = steps->as.ints.v[d];
    if (step < 1)
      return tt_shape_fail(c, "attribute 'steps' is %lld at dimension %d, expected at least 1", (long long)step, d);
    if (start < 0 || start > end || end > x->dim[d])
      return tt_shape_fail(c, "slice %lld to %lld of dimension %d, which has %lld elements", (long long)start,
                           (long long)end, d, (long long)x->dim[d]);
    c->out[0].dim[d] = end == start ? 0 : (end - start - 1) / step + 1;
  }
  return true;
}

/* dy, the gradient of a slice -> zeros of {shape} with dy at starts + i * steps. */
bool tt_shape_slice_grad(tt_shape_ctx *c) {
  TT_TRY(tt_shape_numeric(c, 0));
  const tt_type *dy = tt_shape_in(c, 0);
  const tt_attr *starts = tt_shape_ints(c, TT_A_STARTS, dy->rank);
  TT_TRY(starts);
  const tt_attr *steps = tt_shape_ints(c, TT_A_STEPS, dy->rank);
  TT_TRY(steps);
  const tt_attr *shape = tt_shape_ints(c, TT_A_SHAPE, dy->rank);
  TT_TRY(shape && tt_shape_from_attr(c, shape, dy->dtype, &c->out[0]));
  for (int d = 0; d < dy->rank; d++) {
    int64_t start = starts->as.ints.v[d], step = steps->as.ints.v[d], dim = c->out[0].dim[d];
    if (step < 1)
      return tt_shape_fail(c, "attribute 'steps' is %lld at dimension %d, expected at least 1", (long long)step, d);
    int64_t room = start < 0 || start > dim ? -1 : start == dim ? 0 : (dim - start - 1) / step + 1;
    if (dy->dim[d] > room)
      return tt_shape_fail(c, "dimension %d: %lld elements from %lld in steps of %lld do not fit into %lld", d,
                           (long long)dy->dim[d], (long long)start, (long long)step, (long long)dim);
  }
  return true;
}

bool tt_shape_concat(tt_shape_ctx *c) {
  const tt_type *first = tt_shape_in(c, 0);
  char text[TT_TYPE_TEXT];
  int64_t axis;
  TT_TRY(tt_shape_dense(c, 0) && tt_shape_axis(c, first->rank, &axis));
  c->out[0] = *first;
  for (int i = 1; i < c->n_in; i++) {
    tt_type t = *tt_shape_in(c, i);
    int64_t here = t.rank == first->rank ? t.dim[axis] : 0;
    t.dim[axis] = first->dim[axis];
    if (!tt_type_equal(&t, first))
      return tt_shape_mismatch(c, i, "%s but for dimension %lld, as input 0", tt_type_print(first, text, sizeof text),
                               (long long)axis);
    c->out[0].dim[axis] += here;
  }
  return true;
}

bool tt_shape_expand(tt_shape_ctx *c) {
  char text[TT_TYPE_TEXT];
  TT_TRY(tt_shape_dense(c, 0));
  const tt_type *x = tt_shape_in(c, 0);
  const tt_attr *shape = tt_shape_ints(c, TT_A_SHAPE, -1);
  TT_TRY(shape && tt_shape_from_attr(c, shape, x->dtype, &c->out[0]));
  tt_type both;
  if (tt_broadcast(x, &c->out[0], &both) && tt_type_equal(&both, &c->out[0])) return true;
  return tt_shape_mismatch(c, 0, "a shape that broadcasts to %s", tt_type_print(&c->out[0], text, sizeof text));
}

/* Constant indices are checked here, where the message can name the node; others are the program's. */
static bool indices_in_range(tt_shape_ctx *c, int64_t dim, int64_t axis) {
  const void *bytes = tt_const_data(c->g, c->in[1]);
  const tt_type *t = tt_shape_in(c, 1);
  int64_t count = bytes ? tt_type_count(t) : 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t index = t->dtype == TT_I64 ? ((const int64_t *)bytes)[i] : ((const int32_t *)bytes)[i];
    if (index < -dim || index >= dim)
      return tt_shape_fail(c, "index %lld is outside dimension %lld, which has %lld elements", (long long)index,
                           (long long)axis, (long long)dim);
  }
  return true;
}

/* data [.., n, ..], indices [i, j] -> [.., i, j, ..] */
bool tt_shape_gather(tt_shape_ctx *c) {
  const tt_type *x = tt_shape_in(c, 0), *index = tt_shape_in(c, 1);
  int64_t axis, dim[2 * TT_MAX_RANK];
  TT_TRY(tt_shape_dense(c, 0));
  if (index->dtype != TT_I64 && index->dtype != TT_I32) return tt_shape_mismatch(c, 1, "i64 or i32 indices");
  TT_TRY(tt_shape_axis(c, x->rank, &axis));
  TT_TRY(indices_in_range(c, x->dim[axis], axis));
  int rank = x->rank - 1 + index->rank, k = 0;
  if (rank > TT_MAX_RANK) return tt_shape_fail(c, "result has %d dimensions, at most %d are supported", rank, TT_MAX_RANK);
  for (int d = 0; d < axis; d++) dim[k++] = x->dim[d];
  for (int d = 0; d < index->rank; d++) dim[k++] = index->dim[d];
  for (int d = (int)axis + 1; d < x->rank; d++) dim[k++] = x->dim[d];
  c->out[0] = tt_type_make((tt_dtype)x->dtype, rank, dim);
  return true;
}

bool tt_shape_reduce(tt_shape_ctx *c) {
  TT_TRY(tt_shape_numeric(c, 0) && tt_shape_flag(c, TT_A_KEEPDIMS));
  const tt_type *x = tt_shape_in(c, 0);
  const tt_attr *axes = tt_shape_ints(c, TT_A_AXES, -1);
  TT_TRY(axes);
  bool reduced[TT_MAX_RANK] = {false};
  int64_t last = -1;
  for (int i = 0; i < axes->as.ints.n; i++) {
    int64_t axis = axes->as.ints.v[i];
    if (axis <= last || axis >= x->rank)
      return tt_shape_fail(c, "attribute 'axes' has %lld at %d: expected ascending axes below the rank %d of input 0",
                           (long long)axis, i, x->rank);
    if (c->op == TT_OP_REDUCE_MAX && x->dim[axis] == 0)
      return tt_shape_mismatch(c, 0, "an element to reduce along axis %lld", (long long)axis);
    reduced[axis] = true;
    last = axis;
  }
  int64_t dim[TT_MAX_RANK];
  int rank = 0;
  bool keep = tt_shape_int(c, TT_A_KEEPDIMS) == 1;
  for (int d = 0; d < x->rank; d++) {
    if (!reduced[d])
      dim[rank++] = x->dim[d];
    else if (keep)
      dim[rank++] = 1;
  }
  c->out[0] = tt_type_make((tt_dtype)x->dtype, rank, dim);
  return true;
}
