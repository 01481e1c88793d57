/* Rules of ops that move elements, and reductions. */
#include "compiler/ir/eval_rules.h"
#include <math.h>
#include <string.h>

const int64_t *tt_eval_ints(const tt_eval_ctx *c, tt_attr_id id) {
  const tt_attr *a = tt_node_attr(c->g, c->node, id);
  TT_ASSERT(a);
  return a->as.ints.v;
}

void tt_coords(const tt_type *t, int64_t index, int64_t *coord) {
  for (int d = t->rank - 1; d >= 0; d--) {
    coord[d] = index % t->dim[d];
    index /= t->dim[d];
  }
}

int64_t tt_offset(const tt_type *t, const int64_t *coord) {
  int64_t offset = 0;
  for (int d = 0; d < t->rank; d++) offset = offset * t->dim[d] + coord[d];
  return offset;
}

int64_t tt_broadcast_offset(const tt_type *out, int64_t index, const tt_type *x) {
  int64_t offset = 0, stride = 1;
  for (int d = out->rank - 1, e = x->rank - 1; e >= 0; d--, e--) {
    if (x->dim[e] != 1) offset += index % out->dim[d] * stride;
    index /= out->dim[d];
    stride *= x->dim[e];
  }
  return offset;
}

void tt_eval_shape_of(tt_eval_ctx *c) {
  for (int d = 0; d < c->in[0].type.rank; d++) c->out[0].d[d] = (double)c->in[0].type.dim[d];
}

void tt_eval_reshape(tt_eval_ctx *c) {
  memcpy(c->out[0].d, c->in[0].d, (size_t)tt_type_count(&c->out[0].type) * sizeof(double));
}

void tt_eval_transpose(tt_eval_ctx *c) {
  const int64_t *perm = tt_eval_ints(c, TT_A_PERM);
  const tt_type *to = &c->out[0].type;
  int64_t n = tt_type_count(to), at[TT_MAX_RANK], from[TT_MAX_RANK];
  for (int64_t i = 0; i < n; i++) {
    tt_coords(to, i, at);
    for (int d = 0; d < to->rank; d++) from[perm[d]] = at[d];
    c->out[0].d[i] = c->in[0].d[tt_offset(&c->in[0].type, from)];
  }
}

/* Element i of the small tensor is element starts + coord * steps of the big one. */
static int64_t strided_offset(const tt_type *part, int64_t i, const tt_type *whole, const int64_t *starts,
                              const int64_t *steps) {
  int64_t at[TT_MAX_RANK];
  tt_coords(part, i, at);
  for (int d = 0; d < part->rank; d++) at[d] = starts[d] + at[d] * steps[d];
  return tt_offset(whole, at);
}

void tt_eval_slice(tt_eval_ctx *c) {
  const int64_t *starts = tt_eval_ints(c, TT_A_STARTS), *steps = tt_eval_ints(c, TT_A_STEPS);
  int64_t n = tt_type_count(&c->out[0].type);
  for (int64_t i = 0; i < n; i++)
    c->out[0].d[i] = c->in[0].d[strided_offset(&c->out[0].type, i, &c->in[0].type, starts, steps)];
}

void tt_eval_slice_grad(tt_eval_ctx *c) {
  const int64_t *starts = tt_eval_ints(c, TT_A_STARTS), *steps = tt_eval_ints(c, TT_A_STEPS);
  int64_t n = tt_type_count(&c->in[0].type);
  for (int64_t i = 0; i < n; i++)
    c->out[0].d[strided_offset(&c->in[0].type, i, &c->out[0].type, starts, steps)] = c->in[0].d[i];
}

void tt_eval_concat(tt_eval_ctx *c) {
  int64_t axis = tt_eval_int(c, TT_A_AXIS), before = 0, at[TT_MAX_RANK];
  for (int k = 0; k < c->n_in; k++) {
    const tt_tensor *x = &c->in[k];
    int64_t n = tt_type_count(&x->type);
    for (int64_t i = 0; i < n; i++) {
      tt_coords(&x->type, i, at);
      at[axis] += before;
      c->out[0].d[tt_offset(&c->out[0].type, at)] = x->d[i];
    }
    before += x->type.dim[axis];
  }
}

void tt_eval_expand(tt_eval_ctx *c) {
  tt_tensor *out = &c->out[0];
  int64_t n = tt_type_count(&out->type);
  for (int64_t i = 0; i < n; i++) out->d[i] = c->in[0].d[tt_broadcast_offset(&out->type, i, &c->in[0].type)];
}

/* data [outer, dim, inner], indices [count] -> [outer, count, inner]; a negative index counts from the end. */
void tt_eval_gather(tt_eval_ctx *c) {
  const tt_type *data = &c->in[0].type;
  int64_t axis = tt_eval_int(c, TT_A_AXIS), dim = data->dim[axis], outer = 1, inner = 1;
  for (int64_t d = 0; d < axis; d++) outer *= data->dim[d];
  for (int64_t d = axis + 1; d < data->rank; d++) inner *= data->dim[d];
  int64_t count = tt_type_count(&c->in[1].type);
  for (int64_t o = 0; o < outer; o++)
    for (int64_t k = 0; k < count; k++) {
      int64_t index = (int64_t)c->in[1].d[k];
      if (index < 0) index += dim;
      TT_ASSERT(index >= 0 && index < dim);
      const double *from = c->in[0].d + (o * dim + index) * inner;
      memcpy(c->out[0].d + (o * count + k) * inner, from, (size_t)inner * sizeof *from);
    }
}

/* Reduced dimensions count as 1, so the offset is the same with and without keepdims. */
void tt_eval_reduce(tt_eval_ctx *c) {
  tt_op op = tt_eval_op(c);
  tt_tensor *out = &c->out[0];
  const tt_attr *axes = tt_node_attr(c->g, c->node, TT_A_AXES);
  tt_type kept = c->in[0].type;
  for (int i = 0; i < axes->as.ints.n; i++) kept.dim[axes->as.ints.v[i]] = 1;
  int64_t n = tt_type_count(&c->in[0].type), results = tt_type_count(&out->type);
  for (int64_t i = 0; i < results && op == TT_OP_REDUCE_MAX; i++) out->d[i] = -(double)INFINITY;
  for (int64_t i = 0; i < n; i++) {
    double x = c->in[0].d[i], *to = &out->d[tt_broadcast_offset(&c->in[0].type, i, &kept)];
    if (op != TT_OP_REDUCE_MAX)
      *to += x;
    else if (isnan(x) || x > *to)
      *to = x; /* once NaN, no comparison replaces it */
  }
  for (int64_t i = 0; i < results && op == TT_OP_REDUCE_MEAN; i++) out->d[i] /= (double)(n / results);
}
