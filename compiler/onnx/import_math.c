/* Import of elementwise operators, reductions and constants. */
#include <math.h>
#include <string.h>
#include "compiler/onnx/import.h"

bool import_unary(importer *im, const Onnx__NodeProto *n) {
  return set_out(im, n, 0, build_unary(im, im->op, in(im, n, 0)));
}

bool import_binary(importer *im, const Onnx__NodeProto *n) {
  return set_out(im, n, 0, build_binary(im, im->op, in(im, n, 0), in(im, n, 1)));
}

/* a <= b is not (a > b); they differ for NaN alone, which a comparison of shapes or masks never sees. */
bool import_not_binary(importer *im, const Onnx__NodeProto *n) {
  tt_value v = build_binary(im, im->op, in(im, n, 0), in(im, n, 1));
  return set_out(im, n, 0, build_unary(im, TT_OP_NOT, v));
}

bool import_variadic(importer *im, const Onnx__NodeProto *n) {
  tt_value v = in(im, n, 0);
  for (size_t k = 1; k < n->n_input; k++) v = build_binary(im, im->op, v, in(im, n, k));
  return set_out(im, n, 0, v);
}

bool import_mod(importer *im, const Onnx__NodeProto *n) {
  tt_dtype dtype = (tt_dtype)in_type(im, n, 0)->dtype;
  if (onnx_attr_int(n, "fmod", 0) || (dtype != TT_I32 && dtype != TT_I64))
    return refuse(im, "only the integer form is supported");
  return import_binary(im, n);
}

/* Powers that are products or roots have gradients; any other is left as it is. */
bool import_pow(importer *im, const Onnx__NodeProto *n) {
  tt_value x = in(im, n, 0);
  double p = NAN;
  bool one = tt_const_splat(im->g, in(im, n, 1), &p) && tt_type_count(in_type(im, n, 1)) == 1 &&
             in_type(im, n, 1)->rank <= in_type(im, n, 0)->rank;
  tt_value v = TT_NONE;
  if (one && p == 1.0)
    v = x;
  else if (one && p == 2.0)
    v = build_binary(im, TT_OP_MUL, x, x);
  else if (one && p == 3.0)
    v = build_binary(im, TT_OP_MUL, build_binary(im, TT_OP_MUL, x, x), x);
  else if (one && p == 0.5)
    v = build_unary(im, TT_OP_SQRT, x);
  else if (one && p == -1.0)
    v = build_unary(im, TT_OP_RECIPROCAL, x);
  else if (one && p == -0.5)
    v = build_unary(im, TT_OP_RECIPROCAL, build_unary(im, TT_OP_SQRT, x));
  else
    v = build_binary(im, TT_OP_POW, x, build_cast(im, in(im, n, 1), (tt_dtype)in_type(im, n, 0)->dtype));
  return set_out(im, n, 0, v);
}

/* Bounds are attributes below opset 11, operands from there on; either may be absent. */
bool import_clip(importer *im, const Onnx__NodeProto *n) {
  tt_value v = in(im, n, 0);
  tt_type scalar = tt_type_scalar((tt_dtype)in_type(im, n, 0)->dtype);
  for (size_t k = 1; k <= 2; k++) {
    const char *attr = k == 1 ? "min" : "max";
    tt_value bound = TT_NONE;
    if (has_in(n, k))
      bound = in(im, n, k);
    else if (onnx_attr(n, attr))
      bound = const_filled(im, scalar, onnx_attr_float(n, attr, 0.0f));
    if (bound != TT_NONE) v = build_binary(im, k == 1 ? TT_OP_MAX : TT_OP_MIN, v, bound);
  }
  return set_out(im, n, 0, v);
}

bool import_where(importer *im, const Onnx__NodeProto *n) {
  tt_value x[] = {in(im, n, 0), in(im, n, 1), in(im, n, 2)};
  return set_out(im, n, 0, build(im, TT_OP_WHERE, 3, x, 0, NULL));
}

bool import_gelu(importer *im, const Onnx__NodeProto *n) {
  bool tanh_form = onnx_attr_is(n, "approximate", "tanh");
  if (!tanh_form && onnx_attr(n, "approximate") && !onnx_attr_is(n, "approximate", "none"))
    return refuse(im, "attribute 'approximate' must be 'none' or 'tanh'");
  tt_attr attr = tt_attr_int(TT_A_TANH, tanh_form);
  tt_value x = in(im, n, 0);
  return set_out(im, n, 0, build(im, TT_OP_GELU, 1, &x, 1, &attr));
}

bool import_identity(importer *im, const Onnx__NodeProto *n) { return set_out(im, n, 0, in(im, n, 0)); }

/* Exported models are in evaluation mode: dropout is the identity there. A pass inserts it for training on request. */
bool import_dropout(importer *im, const Onnx__NodeProto *n) {
  double training = 0.0;
  if (has_in(n, 2)) TT_TRY(const_float(im, n, 2, &training));
  if (training != 0.0) return refuse(im, "the model was exported in training mode: export it after model.eval()");
  return set_out(im, n, 0, in(im, n, 0));
}

bool import_cast(importer *im, const Onnx__NodeProto *n) {
  tt_dtype to;
  int32_t onnx_type = (int32_t)onnx_attr_int(n, "to", 0);
  if (!onnx_dtype(onnx_type, &to)) return refuse(im, "a cast to %s is not supported", onnx_dtype_text(onnx_type));
  return set_out(im, n, 0, build_cast(im, in(im, n, 0), to));
}

bool import_cast_like(importer *im, const Onnx__NodeProto *n) {
  return set_out(im, n, 0, build_cast(im, in(im, n, 0), (tt_dtype)in_type(im, n, 1)->dtype));
}

static tt_value constant_of_attr(importer *im, const Onnx__AttributeProto *a) {
  tt_type type;
  const void *data;
  if (strcmp(a->name, "value") == 0) {
    if (!a->t) return refuse(im, "attribute 'value' is no tensor"), TT_NONE;
    if (!onnx_tensor_bytes(a->t, im->model->arena, &type, &data, im->b.loc, im->diag)) return TT_NONE;
    return tt_graph_const(im->g, type, data);
  }
  if (strcmp(a->name, "value_float") == 0) return tt_graph_const_f32(im->g, a->f);
  if (strcmp(a->name, "value_int") == 0) return tt_graph_const(im->g, tt_type_scalar(TT_I64), &a->i);
  if (strcmp(a->name, "value_ints") == 0) return const_ints_value(im, (int)a->n_ints, a->ints);
  return tt_graph_const(im->g, tt_type_make(TT_F32, 1, (int64_t[]){(int64_t)a->n_floats}), a->floats);
}

bool import_constant(importer *im, const Onnx__NodeProto *n) {
  if (n->n_attribute != 1) return refuse(im, "needs exactly one attribute with its value");
  return set_out(im, n, 0, constant_of_attr(im, n->attribute[0]));
}

/* Reduced axes: an attribute in older opsets, an operand in newer ones, none for all. */
bool import_reduce(importer *im, const Onnx__NodeProto *n) {
  int_list axes;
  bool given;
  tt_value x = in(im, n, 0);
  int rank = in_type(im, n, 0)->rank;
  TT_TRY(ints_of(im, n, "axes", 1, &axes, &given));
  if (axes.count == 0 && onnx_attr_int(n, "noop_with_empty_axes", 0)) return set_out(im, n, 0, x);
  bool reduced[TT_MAX_RANK] = {false};
  for (int i = 0; i < axes.count; i++) {
    int axis;
    TT_TRY(axis_of(im, axes.v[i], rank, &axis));
    reduced[axis] = true;
  }
  int64_t sorted[TT_MAX_RANK];
  int count = 0;
  for (int i = 0; i < rank; i++)
    if (reduced[i] || axes.count == 0) sorted[count++] = i;
  tt_attr attrs[] = {tt_attr_ints(im->g, TT_A_AXES, count, sorted),
                     tt_attr_int(TT_A_KEEPDIMS, onnx_attr_int(n, "keepdims", 1))};
  return set_out(im, n, 0, build(im, im->op, 1, &x, 2, attrs));
}

/* The mean over all spatial dimensions: [B,C,...] -> [B,C,1,...]. */
bool import_global_average(importer *im, const Onnx__NodeProto *n) {
  tt_value x = in(im, n, 0);
  int rank = in_type(im, n, 0)->rank;
  if (rank < 3) return refuse(im, "operand 0 has rank %d, at least 3 expected", rank);
  int64_t axes[TT_MAX_RANK];
  for (int i = 2; i < rank; i++) axes[i - 2] = i;
  tt_attr attrs[] = {tt_attr_ints(im->g, TT_A_AXES, rank - 2, axes), tt_attr_int(TT_A_KEEPDIMS, 1)};
  return set_out(im, n, 0, build(im, TT_OP_REDUCE_MEAN, 1, &x, 2, attrs));
}
