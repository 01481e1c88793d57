/* Import of operators that ask for shapes, make tensors of a shape, or move elements. ONNX passes shapes, axes and bounds
 * as operands; the batch is bound, so they are constants by the time they are needed. */
#include <string.h>
#include "compiler/onnx/import.h"

static int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

bool import_shape(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0);
  int64_t start = onnx_attr_int(n, "start", 0), end = onnx_attr_int(n, "end", t.rank);
  start = clamp(start < 0 ? start + t.rank : start, 0, t.rank);
  end = clamp(end < 0 ? end + t.rank : end, start, t.rank);
  return set_out(im, n, 0, const_ints_value(im, (int)(end - start), t.dim + start));
}

bool import_size(importer *im, const Onnx__NodeProto *n) {
  int64_t count = tt_type_count(in_type(im, n, 0));
  return set_out(im, n, 0, tt_graph_const(im->g, tt_type_scalar(TT_I64), &count));
}

/* A type from a list of dimensions; false after a diagnostic for sizes nobody means. */
static bool shape_type(importer *im, tt_dtype dtype, const int_list *dims, tt_type *out) {
  int64_t count = 1;
  if (dims->count > TT_MAX_RANK)
    return refuse(im, "makes %d dimensions, at most %d are supported", dims->count, TT_MAX_RANK);
  for (int i = 0; i < dims->count; i++)
    if (dims->v[i] < 0 || __builtin_mul_overflow(count, dims->v[i], &count) || count > INT64_MAX / 16)
      return refuse(im, "dimension %d of the shape is %lld", i, (long long)dims->v[i]);
  *out = tt_type_make(dtype, dims->count, dims->v);
  return true;
}

bool import_constant_of_shape(importer *im, const Onnx__NodeProto *n) {
  int_list dims;
  tt_type type, element = tt_type_scalar(TT_F32);
  double x = 0.0;
  TT_TRY(const_ints(im, n, 0, &dims));
  const Onnx__AttributeProto *a = onnx_attr(n, "value");
  if (a && a->t) {
    const void *data;
    TT_TRY(onnx_tensor_bytes(a->t, im->model->arena, &element, &data, im->b.loc, im->diag));
    tt_value v = tt_graph_const(im->g, element, data);
    if (tt_type_count(&element) != 1 || !tt_const_splat(im->g, v, &x))
      return refuse(im, "attribute 'value' must be one number");
  }
  TT_TRY(shape_type(im, (tt_dtype)element.dtype, &dims, &type));
  return set_out(im, n, 0, const_filled(im, type, x));
}

bool import_range(importer *im, const Onnx__NodeProto *n) {
  double start, limit, delta;
  TT_TRY(const_float(im, n, 0, &start) && const_float(im, n, 1, &limit) && const_float(im, n, 2, &delta));
  double count = delta == 0.0 ? -1.0 : (limit - start) / delta;
  if (!(count < 1e7) || delta == 0.0) return refuse(im, "makes a range without end, or longer than 10 million");
  int64_t whole = (int64_t)count, items = count > 0.0 ? whole + ((double)whole < count) : 0;
  int64_t *v = TT_NEW_N(im->model->arena, int64_t, items + 1);
  bool integers = in_type(im, n, 0)->dtype == TT_I64 || in_type(im, n, 0)->dtype == TT_I32;
  for (int64_t i = 0; i < items; i++) v[i] = i;
  tt_value index = const_ints_value(im, (int)items, v);
  tt_dtype dtype = (tt_dtype)in_type(im, n, 0)->dtype;
  tt_dtype by = integers ? TT_I64 : dtype; // start + i * delta
  tt_value r = build_binary(im, TT_OP_MUL, build_cast(im, index, by), build_cast(im, in(im, n, 2), by));
  r = build_binary(im, TT_OP_ADD, r, build_cast(im, in(im, n, 0), by));
  return set_out(im, n, 0, build_cast(im, r, dtype));
}

/* 0 copies a dimension (unless allowzero), -1 takes what is left. */
bool import_reshape(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0);
  int_list dims;
  TT_TRY(const_ints(im, n, 1, &dims));
  bool allow_zero = onnx_attr_int(n, "allowzero", 0) != 0;
  int open = -1;
  int64_t known = 1, total = tt_type_count(&t);
  if (dims.count > TT_MAX_RANK) return refuse(im, "makes %d dimensions, at most %d are supported", dims.count, TT_MAX_RANK);
  for (int i = 0; i < dims.count; i++) {
    if (dims.v[i] == 0 && !allow_zero && i < t.rank) dims.v[i] = t.dim[i];
    if (dims.v[i] == -1 && open < 0)
      open = i;
    else if (dims.v[i] < 0 || __builtin_mul_overflow(known, dims.v[i], &known))
      return refuse(im, "the new shape has an impossible dimension %d: %lld", i, (long long)dims.v[i]);
  }
  char text[TT_TYPE_TEXT];
  if (open >= 0 && (known == 0 || total % known))
    return refuse(im, "operand 0 is %s, which does not divide by the given dimensions (%lld)",
                  tt_type_print(&t, text, sizeof text), (long long)known);
  if (open >= 0) dims.v[open] = total / known;
  return set_out(im, n, 0, build_reshape(im, in(im, n, 0), dims.count, dims.v));
}

bool import_flatten(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0);
  int64_t axis = onnx_attr_int(n, "axis", 1), rows = 1;
  if (axis < -t.rank || axis > t.rank)
    return refuse(im, "axis %lld does not exist in a tensor of rank %d", (long long)axis, t.rank);
  if (axis < 0) axis += t.rank;
  for (int i = 0; i < axis; i++) rows *= t.dim[i];
  int64_t total = tt_type_count(&t), columns = rows ? total / rows : 0;
  return set_out(im, n, 0, build_reshape(im, in(im, n, 0), 2, (int64_t[]){rows, columns}));
}

bool import_squeeze(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0);
  int_list axes;
  bool given, gone[TT_MAX_RANK] = {false};
  TT_TRY(ints_of(im, n, "axes", 1, &axes, &given));
  for (int i = 0; !given && i < t.rank; i++) gone[i] = t.dim[i] == 1;
  for (int i = 0; i < axes.count; i++) {
    int axis;
    TT_TRY(axis_of(im, axes.v[i], t.rank, &axis));
    if (t.dim[axis] != 1) return refuse(im, "dimension %d is %lld, not 1: it cannot go", axis, (long long)t.dim[axis]);
    gone[axis] = true;
  }
  int64_t dim[TT_MAX_RANK];
  int rank = 0;
  for (int i = 0; i < t.rank; i++)
    if (!gone[i]) dim[rank++] = t.dim[i];
  return set_out(im, n, 0, build_reshape(im, in(im, n, 0), rank, dim));
}

bool import_unsqueeze(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0);
  int_list axes;
  bool given, is_new[TT_MAX_RANK] = {false};
  TT_TRY(ints_of(im, n, "axes", 1, &axes, &given));
  int rank = t.rank + axes.count;
  if (!given || rank > TT_MAX_RANK) return refuse(im, "needs axes, and makes at most %d dimensions", TT_MAX_RANK);
  for (int i = 0; i < axes.count; i++) {
    int axis;
    TT_TRY(axis_of(im, axes.v[i], rank, &axis));
    if (is_new[axis]) return refuse(im, "axis %d is named twice", axis);
    is_new[axis] = true;
  }
  int64_t dim[TT_MAX_RANK];
  for (int i = 0, k = 0; i < rank; i++) dim[i] = is_new[i] ? 1 : t.dim[k++];
  return set_out(im, n, 0, build_reshape(im, in(im, n, 0), rank, dim));
}

bool import_transpose(importer *im, const Onnx__NodeProto *n) {
  int rank = in_type(im, n, 0)->rank;
  int_list perm;
  TT_TRY(attr_ints(im, n, "perm", &perm));
  bool seen[TT_MAX_RANK] = {false};
  if (perm.count == 0)
    for (perm.count = 0; perm.count < rank; perm.count++) perm.v[perm.count] = rank - 1 - perm.count;
  if (perm.count != rank) return refuse(im, "'perm' has %d entries for a tensor of rank %d", perm.count, rank);
  for (int i = 0; i < rank; i++) {
    int axis;
    TT_TRY(axis_of(im, perm.v[i], rank, &axis));
    if (seen[axis]) return refuse(im, "'perm' names dimension %d twice", axis);
    seen[axis] = true;
    perm.v[i] = axis;
  }
  return set_out(im, n, 0, build_transpose(im, in(im, n, 0), perm.v));
}

static void whole(const tt_type *t, int64_t *starts, int64_t *ends, int64_t *steps) {
  for (int i = 0; i < t->rank; i++) starts[i] = 0, ends[i] = t->dim[i], steps[i] = 1;
}

bool import_slice(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0);
  int_list start, end, axes, step;
  bool given, has_axes, has_steps;
  TT_TRY(ints_of(im, n, "starts", 1, &start, &given) && ints_of(im, n, "ends", 2, &end, &given));
  TT_TRY(ints_of(im, n, "axes", 3, &axes, &has_axes) && ints_of(im, n, "steps", 4, &step, &has_steps));
  if (start.count != end.count || (has_axes && axes.count != start.count) || (has_steps && step.count != start.count))
    return refuse(im, "starts, ends, axes and steps have different lengths");
  int64_t starts[TT_MAX_RANK], ends[TT_MAX_RANK], steps[TT_MAX_RANK];
  whole(&t, starts, ends, steps);
  for (int i = 0; i < start.count; i++) {
    int axis;
    TT_TRY(axis_of(im, has_axes ? axes.v[i] : i, t.rank, &axis));
    int64_t size = t.dim[axis], s = has_steps ? step.v[i] : 1;
    if (s < 1) return refuse(im, "step %lld is not supported, only positive ones", (long long)s);
    steps[axis] = s;
    starts[axis] = clamp(start.v[i] < 0 ? start.v[i] + size : start.v[i], 0, size);
    ends[axis] = clamp(end.v[i] < 0 ? end.v[i] + size : end.v[i], starts[axis], size);
  }
  return set_out(im, n, 0, build_slice(im, in(im, n, 0), starts, ends, steps));
}

/* Sizes of the parts: given, or equal with a smaller last one. */
bool import_split(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0);
  tt_value x = in(im, n, 0);
  int axis;
  int_list parts;
  bool given;
  TT_TRY(axis_of(im, onnx_attr_int(n, "axis", 0), t.rank, &axis) && ints_of(im, n, "split", 1, &parts, &given));
  int64_t count = given ? parts.count : onnx_attr_int(n, "num_outputs", (int64_t)n->n_output);
  if (count != (int64_t)n->n_output) return refuse(im, "%lld parts, but %zu outputs", (long long)count, n->n_output);
  int64_t even = (t.dim[axis] + count - 1) / count, at = 0;
  for (size_t k = 0; k < n->n_output; k++) {
    int64_t starts[TT_MAX_RANK], ends[TT_MAX_RANK], steps[TT_MAX_RANK];
    int64_t size = given ? parts.v[k] : even < t.dim[axis] - at ? even : t.dim[axis] - at;
    if (size < 1 || size > t.dim[axis] - at)
      return refuse(im, "part %zu takes %lld of the %lld left in dimension %d", k, (long long)size,
                    (long long)(t.dim[axis] - at), axis);
    whole(&t, starts, ends, steps);
    starts[axis] = at;
    ends[axis] = at += size;
    TT_TRY(set_out(im, n, k, build_slice(im, x, starts, ends, steps)));
  }
  return at == t.dim[axis] ||
         refuse(im, "the parts make %lld of dimension %d, which has %lld", (long long)at, axis, (long long)t.dim[axis]);
}

bool import_concat(importer *im, const Onnx__NodeProto *n) {
  int axis;
  if (!onnx_attr(n, "axis")) return refuse(im, "needs the attribute 'axis'");
  TT_TRY(axis_of(im, onnx_attr_int(n, "axis", 0), in_type(im, n, 0)->rank, &axis));
  tt_value *x = TT_NEW_N(im->model->arena, tt_value, n->n_input);
  int count = 0;
  for (size_t k = 0; k < n->n_input; k++)
    if (has_in(n, k)) x[count++] = in(im, n, k);
  return set_out(im, n, 0, build_concat(im, count, x, axis));
}

/* Broadcast in both directions: the given shape may have 1 where x does not. */
bool import_expand(importer *im, const Onnx__NodeProto *n) {
  int_list dims;
  tt_type t = *in_type(im, n, 0), wanted, out;
  TT_TRY(const_ints(im, n, 1, &dims) && shape_type(im, (tt_dtype)t.dtype, &dims, &wanted));
  char text[TT_TYPE_TEXT], other[TT_TYPE_TEXT];
  if (!tt_broadcast(&t, &wanted, &out))
    return refuse(im, "operand 0 is %s and cannot be expanded to %s", tt_type_print(&t, text, sizeof text),
                  tt_type_print(&wanted, other, sizeof other));
  tt_value x = in(im, n, 0);
  if (tt_type_equal(&t, &out)) return set_out(im, n, 0, x);
  tt_attr shape = tt_attr_ints(im->g, TT_A_SHAPE, out.rank, out.dim);
  return set_out(im, n, 0, build(im, TT_OP_EXPAND, 1, &x, 1, &shape));
}

bool import_tile(importer *im, const Onnx__NodeProto *n) {
  int_list repeats;
  tt_value x = in(im, n, 0);
  int rank = in_type(im, n, 0)->rank;
  TT_TRY(const_ints(im, n, 1, &repeats));
  if (repeats.count != rank) return refuse(im, "%d repeats for a tensor of rank %d", repeats.count, rank);
  for (int i = 0; i < rank; i++) {
    if (repeats.v[i] < 1 || repeats.v[i] > 4096)
      return refuse(im, "repeats dimension %d %lld times", i, (long long)repeats.v[i]);
    tt_value *copies = TT_NEW_N(im->model->arena, tt_value, repeats.v[i]);
    for (int64_t k = 0; k < repeats.v[i]; k++) copies[k] = x;
    x = build_concat(im, (int)repeats.v[i], copies, i);
    if (x == TT_NONE) return false;
  }
  return set_out(im, n, 0, x);
}

/* One side of one dimension: a constant block beside x, or a slice of it where the padding is negative. */
static tt_value pad_side(importer *im, tt_value x, int axis, bool behind, int64_t by, double fill) {
  if (x == TT_NONE || by == 0) return x;
  tt_type t = *tt_typ(im->g, x);
  if (by < 0) {
    int64_t starts[TT_MAX_RANK], ends[TT_MAX_RANK], steps[TT_MAX_RANK];
    whole(&t, starts, ends, steps);
    if (behind)
      ends[axis] += by;
    else
      starts[axis] -= by;
    return build_slice(im, x, starts, ends, steps);
  }
  t.dim[axis] = by;
  tt_value block = const_filled(im, t, fill);
  if (block == TT_NONE) return TT_NONE;
  tt_value parts[] = {behind ? x : block, behind ? block : x};
  return build_concat(im, 2, parts, axis);
}

bool import_pad(importer *im, const Onnx__NodeProto *n) {
  tt_value x = in(im, n, 0);
  int rank = in_type(im, n, 0)->rank;
  int_list pads, axes;
  bool given, has_axes;
  double fill = onnx_attr_float(n, "value", 0.0f);
  TT_TRY(ints_of(im, n, "pads", 1, &pads, &given) && ints_of(im, n, "axes", 3, &axes, &has_axes));
  if (has_in(n, 2)) TT_TRY(const_float(im, n, 2, &fill));
  int count = has_axes ? axes.count : rank;
  if (pads.count != 2 * count) return refuse(im, "%d pads for %d dimensions", pads.count, count);
  if (onnx_attr(n, "mode") && !onnx_attr_is(n, "mode", "constant")) return refuse(im, "only constant padding is supported");
  for (int i = 0; i < count; i++) {
    int axis;
    TT_TRY(axis_of(im, has_axes ? axes.v[i] : i, rank, &axis));
    x = pad_side(im, x, axis, false, pads.v[i], fill);
    x = pad_side(im, x, axis, true, pads.v[i + count], fill);
  }
  return set_out(im, n, 0, x);
}

/* data[index] along an axis for one constant index: a slice, and the dimension goes where the index is a scalar. */
static tt_value gather_run(importer *im, tt_value x, int axis, int64_t first, int64_t count, bool scalar) {
  tt_type t = *tt_typ(im->g, x);
  int64_t starts[TT_MAX_RANK], ends[TT_MAX_RANK], steps[TT_MAX_RANK], dim[TT_MAX_RANK];
  whole(&t, starts, ends, steps);
  starts[axis] = first;
  ends[axis] = first + count;
  tt_value v = build_slice(im, x, starts, ends, steps);
  if (!scalar) return v;
  for (int i = 0, k = 0; i < t.rank; i++)
    if (i != axis) dim[k++] = t.dim[i];
  return build_reshape(im, v, t.rank - 1, dim);
}

bool import_gather(importer *im, const Onnx__NodeProto *n) {
  tt_type t = *in_type(im, n, 0), it = *in_type(im, n, 1);
  tt_value x = in(im, n, 0), index = in(im, n, 1);
  int axis;
  TT_TRY(axis_of(im, onnx_attr_int(n, "axis", 0), t.rank, &axis));
  if (tt_const_data(im->g, index) && it.rank <= 1 && tt_type_count(&it) > 0 && tt_type_count(&it) <= 64) {
    int_list list;
    TT_TRY(const_ints(im, n, 1, &list));
    bool run = true;
    for (int i = 0; i < list.count; i++) {
      if (list.v[i] < 0) list.v[i] += t.dim[axis];
      if (list.v[i] < 0 || list.v[i] >= t.dim[axis])
        return refuse(im, "index %d is outside dimension %d, which has %lld", i, axis, (long long)t.dim[axis]);
      run &= list.v[i] == list.v[0] + i;
    }
    if (run) return set_out(im, n, 0, gather_run(im, x, axis, list.v[0], list.count, it.rank == 0));
  }
  tt_attr attr = tt_attr_int(TT_A_AXIS, axis);
  tt_value operands[] = {x, build_cast(im, index, TT_I64)};
  return set_out(im, n, 0, build(im, TT_OP_GATHER, 2, operands, 1, &attr));
}
