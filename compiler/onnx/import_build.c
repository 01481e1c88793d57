/* The vocabulary of import functions: constants out of operands and attributes, nodes folded as they are built. */
#include <string.h>
#include "compiler/ir/eval.h"
#include "compiler/onnx/import.h"

enum { FOLD_BYTES_MAX = 64 << 20 };

bool attr_ints(importer *im, const Onnx__NodeProto *n, const char *attr, int_list *out) {
  const Onnx__AttributeProto *a = onnx_attr(n, attr);
  const int max = (int)(sizeof out->v / sizeof *out->v);
  out->count = 0;
  if (!a) return true;
  if (a->n_ints > (size_t)max)
    return refuse(im, "attribute '%s' has %zu numbers, at most %d are supported", attr, a->n_ints, max);
  out->count = (int)a->n_ints;
  if (a->n_ints) memcpy(out->v, a->ints, a->n_ints * sizeof *a->ints);
  return true;
}

static int64_t int_at(const tt_type *type, const void *data, int64_t i) {
  return type->dtype == TT_I64 ? ((const int64_t *)data)[i] : ((const int32_t *)data)[i];
}

bool const_ints(importer *im, const Onnx__NodeProto *n, size_t k, int_list *out) {
  tt_value v = in(im, n, k);
  const tt_type *type = tt_typ(im->g, v);
  const void *data = tt_const_data(im->g, v);
  const int64_t max = (int64_t)(sizeof out->v / sizeof *out->v);
  if (!data)
    return refuse(im, "operand %zu, '%s', must be known when compiling, but depends on the model's input", k, n->input[k]);
  if ((type->dtype != TT_I64 && type->dtype != TT_I32) || type->rank > 1 || tt_type_count(type) > max)
    return refuse(im, "operand %zu, '%s', must be a list of at most %lld integers", k, n->input[k], (long long)max);
  out->count = (int)tt_type_count(type);
  for (int i = 0; i < out->count; i++) out->v[i] = int_at(type, data, i);
  return true;
}

bool const_int(importer *im, const Onnx__NodeProto *n, size_t k, int64_t *out) {
  int_list list;
  TT_TRY(const_ints(im, n, k, &list));
  if (list.count != 1) return refuse(im, "operand %zu, '%s', must be one integer", k, n->input[k]);
  *out = list.v[0];
  return true;
}

bool const_float(importer *im, const Onnx__NodeProto *n, size_t k, double *out) {
  if (tt_const_splat(im->g, in(im, n, k), out)) return true;
  return refuse(im, "operand %zu, '%s', must be one number known when compiling", k, n->input[k]);
}

bool ints_of(importer *im, const Onnx__NodeProto *n, const char *attr, size_t k, int_list *out, bool *given) {
  *given = true;
  if (onnx_attr(n, attr)) return attr_ints(im, n, attr, out);
  if (has_in(n, k)) return const_ints(im, n, k, out);
  *given = false;
  out->count = 0;
  return true;
}

bool axis_of(importer *im, int64_t axis, int rank, int *out) {
  if (axis < -rank || axis >= rank)
    return refuse(im, "axis %lld does not exist in a tensor of rank %d", (long long)axis, rank);
  *out = (int)(axis < 0 ? axis + rank : axis);
  return true;
}

/* Output 0 of the node, or the constant it folds to. Folding replaces uses, and a result is one: it finds the constant. */
static tt_value fold(importer *im, tt_node node) {
  static const char probe[] = "(import)";
  tt_graph *g = im->g;
  tt_value v = tt_nod(g, node)->out[0];
  tt_graph_set_result(g, probe, v);
  if (tt_fold_node(g, node, FOLD_BYTES_MAX)) v = tt_graph_result(g, probe);
  g->results.count--;
  return v;
}

tt_value build(importer *im, tt_op op, int n_in, const tt_value *x, int n_attrs, const tt_attr *attrs) {
  bool constant = true;
  for (int i = 0; i < n_in; i++) {
    if (x[i] == TT_NONE) return TT_NONE;
    constant &= tt_val(im->g, x[i])->kind == TT_VALUE_CONST;
  }
  tt_node node = tt_build(&im->b, op, n_in, x, n_attrs, attrs);
  if (node == TT_NONE) return TT_NONE;
  return constant && tt_nod(im->g, node)->n_out == 1 ? fold(im, node) : tt_nod(im->g, node)->out[0];
}

tt_value build_unary(importer *im, tt_op op, tt_value x) { return build(im, op, 1, &x, 0, NULL); }
tt_value build_binary(importer *im, tt_op op, tt_value x, tt_value y) {
  return build(im, op, 2, (tt_value[]){x, y}, 0, NULL);
}

tt_value build_reshape(importer *im, tt_value x, int rank, const int64_t *dim) {
  if (x == TT_NONE) return TT_NONE;
  const tt_type *t = tt_typ(im->g, x);
  if (t->rank == rank && memcmp(t->dim, dim, (size_t)rank * sizeof *dim) == 0) return x;
  tt_attr shape = tt_attr_ints(im->g, TT_A_SHAPE, rank, dim);
  return build(im, TT_OP_RESHAPE, 1, &x, 1, &shape);
}

tt_value build_transpose(importer *im, tt_value x, const int64_t *perm) {
  if (x == TT_NONE) return TT_NONE;
  tt_attr attr = tt_attr_ints(im->g, TT_A_PERM, tt_typ(im->g, x)->rank, perm);
  return build(im, TT_OP_TRANSPOSE, 1, &x, 1, &attr);
}

tt_value build_slice(importer *im, tt_value x, const int64_t *starts, const int64_t *ends, const int64_t *steps) {
  if (x == TT_NONE) return TT_NONE;
  const tt_type *t = tt_typ(im->g, x);
  bool whole = true;
  for (int i = 0; i < t->rank; i++) whole &= starts[i] == 0 && ends[i] == t->dim[i] && steps[i] == 1;
  if (whole) return x;
  int rank = t->rank;
  tt_attr attrs[] = {tt_attr_ints(im->g, TT_A_STARTS, rank, starts), tt_attr_ints(im->g, TT_A_ENDS, rank, ends),
                     tt_attr_ints(im->g, TT_A_STEPS, rank, steps)};
  return build(im, TT_OP_SLICE, 1, &x, 3, attrs);
}

tt_value build_concat(importer *im, int n, const tt_value *x, int axis) {
  if (n == 1) return x[0];
  tt_attr attr = tt_attr_int(TT_A_AXIS, axis);
  return build(im, TT_OP_CONCAT, n, x, 1, &attr);
}

tt_value build_cast(importer *im, tt_value x, tt_dtype to) {
  if (x == TT_NONE || tt_typ(im->g, x)->dtype == to) return x;
  tt_attr attr = tt_attr_int(TT_A_TO, to);
  return build(im, TT_OP_CAST, 1, &x, 1, &attr);
}

tt_value const_ints_value(importer *im, int n, const int64_t *v) {
  return tt_graph_const(im->g, tt_type_make(TT_I64, 1, (int64_t[]){n}), v);
}

static void store(tt_dtype dtype, void *bytes, int64_t i, double x) {
  switch (dtype) {
  case TT_F32: ((float *)bytes)[i] = (float)x; return;
  case TT_F64: ((double *)bytes)[i] = x; return;
  case TT_I32: ((int32_t *)bytes)[i] = (int32_t)x; return;
  case TT_I64: ((int64_t *)bytes)[i] = (int64_t)x; return;
  default: ((uint8_t *)bytes)[i] = x != 0.0; return;
  }
}

tt_value const_filled(importer *im, tt_type type, double x) {
  if (tt_type_bytes(&type) > FOLD_BYTES_MAX) return refuse(im, "makes a constant of more than 64 MiB"), TT_NONE;
  void *bytes = tt_arena_alloc(im->model->arena, tt_type_bytes(&type));
  for (int64_t i = 0; i < tt_type_count(&type); i++) store((tt_dtype)type.dtype, bytes, i, x);
  return tt_graph_const(im->g, type, bytes);
}
