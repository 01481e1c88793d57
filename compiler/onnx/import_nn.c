/* Import of products, convolutions, normalisations and attention. Semantics are kept, forms are not yet unified: that is
 * canon's work in passes/. */
#include <math.h>
#include <string.h>
#include "compiler/onnx/import.h"

/* Vectors become matrices for the product, and the dimension that was added goes again. */
bool import_matmul(importer *im, const Onnx__NodeProto *n) {
  tt_value a = in(im, n, 0), b = in(im, n, 1);
  tt_type ta = *tt_typ(im->g, a), tb = *tt_typ(im->g, b);
  if (ta.rank == 0 || tb.rank == 0) return refuse(im, "operands must have at least one dimension");
  if (ta.rank == 1) a = build_reshape(im, a, 2, (int64_t[]){1, ta.dim[0]});
  if (tb.rank == 1) b = build_reshape(im, b, 2, (int64_t[]){tb.dim[0], 1});
  tt_value y = build_binary(im, TT_OP_MATMUL, a, b);
  if (y == TT_NONE) return false;
  if (ta.rank > 1 && tb.rank > 1) return set_out(im, n, 0, y);
  tt_type t = *tt_typ(im->g, y);
  int64_t dim[TT_MAX_RANK];
  int rank = 0;
  for (int i = 0; i < t.rank; i++) {
    bool row = i == t.rank - 2 && ta.rank == 1, column = i == t.rank - 1 && tb.rank == 1;
    if (!row && !column) dim[rank++] = t.dim[i];
  }
  return set_out(im, n, 0, build_reshape(im, y, rank, dim));
}

static tt_value scaled(importer *im, tt_value x, float by) {
  return by == 1.0f ? x : build_binary(im, TT_OP_MUL, x, tt_graph_const_f32(im->g, by));
}

/* alpha A' B' + beta C. The form of a linear layer (A plain, B transposed, C a vector) is one. */
bool import_gemm(importer *im, const Onnx__NodeProto *n) {
  float alpha = onnx_attr_float(n, "alpha", 1.0f), beta = onnx_attr_float(n, "beta", 1.0f);
  int64_t trans_a = onnx_attr_int(n, "transA", 0) != 0, trans_b = onnx_attr_int(n, "transB", 0) != 0;
  tt_value a = in(im, n, 0), b = in(im, n, 1), c = has_in(n, 2) ? in(im, n, 2) : TT_NONE;
  if (in_type(im, n, 0)->rank != 2 || in_type(im, n, 1)->rank != 2) return refuse(im, "operands 0 and 1 must be matrices");
  bool vector = c == TT_NONE || (in_type(im, n, 2)->rank == 1 && in_type(im, n, 2)->dim[0] == in_type(im, n, 1)->dim[0]);
  if (!trans_a && trans_b && alpha == 1.0f && beta == 1.0f && vector) {
    tt_value x[] = {a, b, c};
    return set_out(im, n, 0, build(im, TT_OP_LINEAR, c == TT_NONE ? 2 : 3, x, 0, NULL));
  }
  tt_attr attrs[] = {tt_attr_int(TT_A_TRANS_A, trans_a), tt_attr_int(TT_A_TRANS_B, trans_b)};
  tt_value y = scaled(im, build(im, TT_OP_MATMUL, 2, (tt_value[]){a, b}, 2, attrs), alpha);
  if (c != TT_NONE && beta != 0.0f) y = build_binary(im, TT_OP_ADD, y, scaled(im, c, beta));
  return set_out(im, n, 0, y);
}

static bool ints_or(importer *im, const Onnx__NodeProto *n, const char *attr, int count, int64_t absent, int_list *out) {
  TT_TRY(attr_ints(im, n, attr, out));
  if (out->count == 0)
    for (out->count = 0; out->count < count; out->count++) out->v[out->count] = absent;
  return out->count == count || refuse(im, "attribute '%s' has %d numbers, %d expected", attr, out->count, count);
}

/* SAME_UPPER and SAME_LOWER: ceil(size / stride) outputs, the odd cell of padding behind or in front. */
static void same_pads(const tt_type *x, const tt_type *w, const int_list *strides, const int_list *dilations, bool lower,
                      int_list *pads) {
  for (int i = 0; i < 2; i++) {
    int64_t out = (x->dim[2 + i] + strides->v[i] - 1) / strides->v[i];
    int64_t span = (out - 1) * strides->v[i] + (w->dim[2 + i] - 1) * dilations->v[i] + 1;
    int64_t total = span > x->dim[2 + i] ? span - x->dim[2 + i] : 0;
    pads->v[i] = lower ? total - total / 2 : total / 2;
    pads->v[i + 2] = total - pads->v[i];
  }
}

bool import_conv(importer *im, const Onnx__NodeProto *n) {
  tt_type x = *in_type(im, n, 0), w = *in_type(im, n, 1);
  if (x.rank != 4 || w.rank != 4)
    return refuse(im, "only two-dimensional convolutions are supported (operand 0 has rank %d)", x.rank);
  int_list strides, dilations, pads, kernel;
  TT_TRY(ints_or(im, n, "strides", 2, 1, &strides) && ints_or(im, n, "dilations", 2, 1, &dilations));
  TT_TRY(ints_or(im, n, "pads", 4, 0, &pads) && attr_ints(im, n, "kernel_shape", &kernel));
  if (kernel.count && (kernel.count != 2 || kernel.v[0] != w.dim[2] || kernel.v[1] != w.dim[3]))
    return refuse(im, "'kernel_shape' is not the shape of the weights, %lldx%lld", (long long)w.dim[2],
                  (long long)w.dim[3]);
  for (int i = 0; i < 2; i++)
    if (strides.v[i] < 1 || dilations.v[i] < 1) return refuse(im, "strides and dilations must be positive");
  bool upper = onnx_attr_is(n, "auto_pad", "SAME_UPPER"), lower = onnx_attr_is(n, "auto_pad", "SAME_LOWER");
  if (upper || lower) same_pads(&x, &w, &strides, &dilations, lower, &pads);
  tt_attr attrs[] = {tt_attr_ints(im->g, TT_A_STRIDES, 2, strides.v), tt_attr_ints(im->g, TT_A_PADS, 4, pads.v),
                     tt_attr_ints(im->g, TT_A_DILATIONS, 2, dilations.v),
                     tt_attr_int(TT_A_GROUP, onnx_attr_int(n, "group", 1))};
  tt_value operands[] = {in(im, n, 0), in(im, n, 1), has_in(n, 2) ? in(im, n, 2) : TT_NONE};
  return set_out(im, n, 0, build(im, TT_OP_CONV, has_in(n, 2) ? 3 : 2, operands, 4, attrs));
}

static int64_t product(const int64_t *dim, int from, int to) {
  int64_t p = 1;
  for (int i = from; i < to; i++) p *= dim[i];
  return p;
}

/* From opset 13 along one axis (default the last); before, over everything from `axis` (default 1) on. */
bool import_softmax(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0);
  tt_value x = in(im, n, 0);
  bool flat = im->model->opset < 13;
  int axis;
  TT_TRY(axis_of(im, onnx_attr_int(n, "axis", flat ? 1 : -1), t.rank, &axis));
  if (axis == t.rank - 1) return set_out(im, n, 0, build_unary(im, TT_OP_SOFTMAX, x));
  if (flat) {
    x = build_reshape(im, x, 2, (int64_t[]){product(t.dim, 0, axis), product(t.dim, axis, t.rank)});
    return set_out(im, n, 0, build_reshape(im, build_unary(im, TT_OP_SOFTMAX, x), t.rank, t.dim));
  }
  int64_t perm[TT_MAX_RANK]; // swaps the axis with the last; its own inverse
  for (int i = 0; i < t.rank; i++) perm[i] = i;
  perm[axis] = t.rank - 1;
  perm[t.rank - 1] = axis;
  x = build_unary(im, TT_OP_SOFTMAX, build_transpose(im, x, perm));
  return set_out(im, n, 0, build_transpose(im, x, perm));
}

/* Normalising over several last dimensions is normalising over one, flattened. */
bool import_layernorm(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0);
  int axis;
  TT_TRY(axis_of(im, onnx_attr_int(n, "axis", -1), t.rank, &axis));
  int64_t rows = product(t.dim, 0, axis), d = product(t.dim, axis, t.rank);
  tt_value x = in(im, n, 0), gamma = in(im, n, 1), beta = TT_NONE;
  if (axis < t.rank - 1) x = build_reshape(im, x, 2, (int64_t[]){rows, d});
  for (size_t k = 1; k < n->n_input; k++)
    if (has_in(n, k) && tt_type_count(in_type(im, n, k)) != d)
      return refuse(im, "operand %zu has %lld elements, %lld expected", k, (long long)tt_type_count(in_type(im, n, k)),
                    (long long)d);
  tt_type vector = tt_type_make(TT_F32, 1, &d);
  beta = has_in(n, 2) ? in(im, n, 2) : const_filled(im, vector, 0.0);
  tt_value operands[] = {x, build_reshape(im, gamma, 1, &d), build_reshape(im, beta, 1, &d)};
  tt_attr attr = tt_attr_float(TT_A_EPSILON, onnx_attr_float(n, "epsilon", 1e-5f));
  tt_value y = build(im, TT_OP_LAYERNORM, 3, operands, 1, &attr);
  return set_out(im, n, 0, build_reshape(im, y, t.rank, t.dim));
}

/* x / sqrt(mean(x^2) + epsilon) * gain over the last dimensions. */
bool import_rmsnorm(importer *im, const Onnx__NodeProto *n) {
  int rank = in_type(im, n, 0)->rank, axis;
  tt_value x = in(im, n, 0);
  TT_TRY(axis_of(im, onnx_attr_int(n, "axis", -1), rank, &axis));
  int64_t axes[TT_MAX_RANK];
  for (int i = axis; i < rank; i++) axes[i - axis] = i;
  tt_attr attrs[] = {tt_attr_ints(im->g, TT_A_AXES, rank - axis, axes), tt_attr_int(TT_A_KEEPDIMS, 1)};
  tt_value square = build_binary(im, TT_OP_MUL, x, x);
  tt_value mean = build(im, TT_OP_REDUCE_MEAN, 1, &square, 2, attrs);
  mean = build_binary(im, TT_OP_ADD, mean, tt_graph_const_f32(im->g, onnx_attr_float(n, "epsilon", 1e-5f)));
  tt_value rstd = build_unary(im, TT_OP_RECIPROCAL, build_unary(im, TT_OP_SQRT, mean));
  return set_out(im, n, 0, build_binary(im, TT_OP_MUL, build_binary(im, TT_OP_MUL, x, rstd), in(im, n, 1)));
}

/* [B,H,N,d] <-> [B,N,H*d] */
static tt_value merge_heads(importer *im, tt_value x) {
  tt_type t = *tt_typ(im->g, x);
  if (t.rank != 4) return x;
  x = build_transpose(im, x, (int64_t[]){0, 2, 1, 3});
  return build_reshape(im, x, 3, (int64_t[]){t.dim[0], t.dim[2], t.dim[1] * t.dim[3]});
}

static tt_value part_heads(importer *im, tt_value x, int64_t heads) {
  if (x == TT_NONE) return TT_NONE;
  tt_type t = *tt_typ(im->g, x);
  x = build_reshape(im, x, 4, (int64_t[]){t.dim[0], t.dim[1], heads, t.dim[2] / heads});
  return build_transpose(im, x, (int64_t[]){0, 2, 1, 3});
}

/* Attention-23, as Vision Transformers use it: no mask, no cache, as many key as query heads. */
bool import_attention(importer *im, const Onnx__NodeProto *n) {
  tt_type q = *in_type(im, n, 0), k = *in_type(im, n, 1);
  if (has_in(n, 3) || has_in(n, 4) || has_in(n, 5)) return refuse(im, "masks and key/value caches are not supported");
  if (onnx_attr_int(n, "is_causal", 0)) return refuse(im, "causal attention is not supported");
  if (onnx_attr_float(n, "softcap", 0.0f) != 0.0f) return refuse(im, "'softcap' is not supported");
  if ((q.rank != 3 && q.rank != 4) || k.rank != q.rank || in_type(im, n, 2)->rank != q.rank)
    return refuse(im, "operands must all have rank 3 or all rank 4");
  int64_t heads = q.rank == 4 ? q.dim[1] : onnx_attr_int(n, "q_num_heads", 0);
  int64_t kv_heads = q.rank == 4 ? k.dim[1] : onnx_attr_int(n, "kv_num_heads", heads);
  if (heads < 1 || kv_heads != heads)
    return refuse(im, "%lld query heads and %lld key heads: both must be given, and equal", (long long)heads,
                  (long long)kv_heads);
  int64_t width = q.rank == 4 ? q.dim[3] : q.dim[2] / heads;
  double scale = onnx_attr(n, "scale") ? (double)onnx_attr_float(n, "scale", 1.0f) : 1.0 / sqrt((double)width);
  tt_attr attrs[] = {tt_attr_int(TT_A_HEADS, heads), tt_attr_float(TT_A_SCALE, scale)};
  tt_value x[3];
  for (size_t i = 0; i < 3; i++) x[i] = merge_heads(im, in(im, n, i));
  tt_value o = build(im, TT_OP_ATTENTION, 3, x, 2, attrs);
  return set_out(im, n, 0, q.rank == 4 ? part_heads(im, o, heads) : o);
}
