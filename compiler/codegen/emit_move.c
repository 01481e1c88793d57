/* Ops that move elements: copies between two views of row-major tensors, each one walk. Elements move as 32-bit lanes, so
 * that float32 and int32 share the code. A reshape moves nothing where the plan gave both sides one address. */
#include <string.h>
#include "compiler/codegen/state.h"
#include "compiler/codegen/walk.h"

static bool four_byte_elements(cg_node *x) {
  char t[TT_TYPE_TEXT];
  const tt_type *type = cg_in_type(x, 0);
  if (type->dtype == TT_F32 || type->dtype == TT_I32) return true;
  tt_error(x->c->diag, x->d->loc, "'%s' on %s: generated code moves float32 and int32 only; let constants fold",
           tt_ops[x->d->op].name, tt_type_print(type, t, sizeof t));
  return false;
}

static void copy_body(cg_ctx *c, void *u, const cg_val *in, cg_val *out) {
  (void)c, (void)u;
  out[0] = in[0];
}

static void zero_body(cg_ctx *c, void *u, const cg_val *in, cg_val *out) {
  (void)u, (void)in;
  out[0] = cg_vf(c, 0);
}

/* Copies input `from` to output 0 along a finished walk of one input and one output. */
static bool emit_copy(cg_node *x, const char *suffix, int from, cg_walk *w) {
  cg_walk_done(w);
  cg_kernel *k = cg_kernel_begin(x, suffix);
  if (k) {
    cg_val base[2] = {cg_in(k, from), cg_out(k, 0)};
    cg_walk_emit(k, w, base, copy_body, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, suffix, cg_walk_tasks(w));
  return true;
}

static void row_major(const tt_type *t, int64_t *stride) {
  int64_t s = 1;
  for (int d = t->rank - 1; d >= 0; d--) {
    stride[d] = s;
    s *= t->dim[d];
  }
}

bool cg_emit_reshape(cg_node *x) {
  if (cg_same_place(x->g, x->d->in[0], x->d->out[0])) return true;
  cg_place to = cg_value_place(x->c, x->d->out[0]), from = cg_value_place(x->c, x->d->in[0]);
  cg_add_move(x->c, to, from, tt_type_bytes(cg_in_type(x, 0)));
  return true;
}

bool cg_emit_transpose(cg_node *x) {
  TT_TRY(four_byte_elements(x));
  const tt_attr *perm = tt_node_attr(x->g, x->n, TT_A_PERM);
  int64_t in[TT_MAX_RANK] = {0}, stride[TT_MAX_RANK] = {0};
  row_major(cg_in_type(x, 0), in);
  for (int d = 0; d < perm->as.ints.n; d++) stride[d] = in[perm->as.ints.v[d]];
  cg_walk w = cg_walk_over(cg_out_type(x, 0), 2);
  cg_walk_in_strided(&w, stride, 0);
  cg_walk_out(&w, cg_out_type(x, 0));
  return emit_copy(x, "", 0, &w);
}

/* The strides and offset at which `starts` and `steps` cut a view out of a row-major `whole`. */
static int64_t view(const cg_node *x, const tt_type *whole, int64_t *stride) {
  const tt_attr *starts = tt_node_attr(x->g, x->n, TT_A_STARTS), *steps = tt_node_attr(x->g, x->n, TT_A_STEPS);
  int64_t offset = 0;
  row_major(whole, stride);
  for (int d = 0; d < whole->rank; d++) {
    offset += starts->as.ints.v[d] * stride[d];
    stride[d] *= steps->as.ints.v[d];
  }
  return offset;
}

bool cg_emit_slice(cg_node *x) {
  TT_TRY(four_byte_elements(x));
  int64_t stride[TT_MAX_RANK] = {0};
  int64_t offset = view(x, cg_in_type(x, 0), stride);
  cg_walk w = cg_walk_over(cg_out_type(x, 0), 1);
  cg_walk_in_strided(&w, stride, offset);
  cg_walk_out(&w, cg_out_type(x, 0));
  return emit_copy(x, "", 0, &w);
}

bool cg_emit_slice_grad(cg_node *x) {
  TT_TRY(four_byte_elements(x));
  int64_t stride[TT_MAX_RANK] = {0};
  cg_walk zero = cg_walk_over(cg_out_type(x, 0), 1);
  cg_walk_out(&zero, cg_out_type(x, 0));
  cg_walk_done(&zero);
  cg_kernel *k = cg_kernel_begin(x, "zero");
  if (k) {
    cg_val base = cg_out(k, 0);
    cg_walk_emit(k, &zero, &base, zero_body, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, "zero", cg_walk_tasks(&zero));
  int64_t offset = view(x, cg_out_type(x, 0), stride);
  cg_walk w = cg_walk_over(cg_in_type(x, 0), 1);
  cg_walk_in(&w, cg_in_type(x, 0));
  cg_walk_out_strided(&w, stride, offset);
  return emit_copy(x, "", 0, &w);
}

bool cg_emit_concat(cg_node *x) {
  TT_TRY(four_byte_elements(x));
  int64_t stride[TT_MAX_RANK] = {0}, axis = tt_node_int(x->g, x->n, TT_A_AXIS), at = 0;
  row_major(cg_out_type(x, 0), stride);
  for (int i = 0; i < x->d->n_in; i++) {
    char suffix[16];
    snprintf(suffix, sizeof suffix, "%d", i);
    cg_walk w = cg_walk_over(cg_in_type(x, i), 1);
    cg_walk_in(&w, cg_in_type(x, i));
    cg_walk_out_strided(&w, stride, at * stride[axis]);
    TT_TRY(emit_copy(x, suffix, i, &w));
    at += cg_in_type(x, i)->dim[axis];
  }
  return true;
}

bool cg_emit_expand(cg_node *x) {
  TT_TRY(four_byte_elements(x));
  cg_walk w = cg_walk_over(cg_out_type(x, 0), 1);
  cg_walk_in(&w, cg_in_type(x, 0));
  cg_walk_out(&w, cg_out_type(x, 0));
  return emit_copy(x, "", 0, &w);
}
