/* Layer normalisation spelled in elementary ops, as ONNX before opset 17 has it, becomes `layernorm`.
 *
 *   %1 = reduce_mean %x {axes=last, keepdims=1}
 *   %2 = sub %x, %1
 *   %3 = mul %2, %2                (or pow(%2, 2))
 *   %4 = reduce_mean %3 {axes=last, keepdims=1}              %y, .., .. = layernorm %x, @gamma, @beta {epsilon}
 *   %5 = sqrt(add(%4, epsilon))
 *   %6 = div %2, %5                (or mul by its reciprocal)
 *   %7 = mul %6, @gamma            (absent: ones)
 *   %8 = add %7, @beta             (absent: zeros)
 *
 * The match stands on the last of these that is present. Formula: Ba, Kiros, Hinton 2016, (4), with epsilon
 * under the root. Requires: opt_cse (both uses of %2 are one value). */
#include "passes/match.h"

typedef struct norm {
  tt_value x, gamma, beta; /* gamma, beta TT_NONE where absent */
  double epsilon;
} norm;

/* v = mean of x over its last dimension, kept as size 1. */
static bool is_mean(const tt_graph *g, tt_value v, tt_value *x) {
  const tt_node n = tt_def_op(g, v, TT_OP_REDUCE_MEAN);
  if (n == TT_NONE || !tt_node_int(g, n, TT_A_KEEPDIMS)) return false;
  const tt_attr *axes = tt_node_attr(g, n, TT_A_AXES);
  *x = tt_nod(g, n)->in[0];
  return axes && axes->as.ints.n == 1 && axes->as.ints.v[0] == tt_typ(g, *x)->rank - 1;
}

static bool is_square(const tt_graph *g, tt_value v, tt_value of) {
  const tt_node mul = tt_def_op(g, v, TT_OP_MUL), pow = tt_def_op(g, v, TT_OP_POW);
  double c;
  if (mul != TT_NONE) return tt_nod(g, mul)->in[0] == of && tt_nod(g, mul)->in[1] == of;
  return pow != TT_NONE && tt_nod(g, pow)->in[0] == of && tt_const_splat(g, tt_nod(g, pow)->in[1], &c) && c == 2;
}

/* v = x - mean(x) */
static bool is_centred(const tt_graph *g, tt_value v, tt_value *x) {
  const tt_node sub = tt_def_op(g, v, TT_OP_SUB);
  if (sub == TT_NONE || !is_mean(g, tt_nod(g, sub)->in[1], x)) return false;
  return tt_nod(g, sub)->in[0] == *x;
}

/* v = sqrt(mean(centred^2) + epsilon) */
static bool is_deviation(const tt_graph *g, tt_value v, tt_value centred, double *epsilon) {
  const tt_value under = tt_match_unary(g, v, TT_OP_SQRT);
  tt_value variance, square;
  if (under == TT_NONE || !tt_match_with_scalar(g, under, TT_OP_ADD, &variance, epsilon)) return false;
  return is_mean(g, variance, &square) && is_square(g, square, centred);
}

/* v = (x - mean) / deviation */
static bool is_normalised(const tt_graph *g, tt_value v, norm *out) {
  const tt_node div = tt_def_op(g, v, TT_OP_DIV), mul = tt_def_op(g, v, TT_OP_MUL);
  if (div != TT_NONE) {
    const tt_value *in = tt_nod(g, div)->in;
    return is_centred(g, in[0], &out->x) && is_deviation(g, in[1], in[0], &out->epsilon);
  }
  for (int side = 0; mul != TT_NONE && side < 2; side++) {
    const tt_value centred = tt_nod(g, mul)->in[side];
    const tt_value deviation = tt_match_unary(g, tt_nod(g, mul)->in[1 - side], TT_OP_RECIPROCAL);
    if (deviation == TT_NONE || !is_centred(g, centred, &out->x)) continue;
    if (is_deviation(g, deviation, centred, &out->epsilon)) return true;
  }
  return false;
}

static bool is_row_vector(const tt_graph *g, tt_value v, tt_value x) {
  return tt_typ(g, v)->rank == 1 && tt_type_last(tt_typ(g, v)) == tt_type_last(tt_typ(g, x));
}

/* v = normalised * gamma, or normalised alone */
static bool is_scaled(const tt_match *m, tt_value v, norm *out) {
  const tt_graph *g = m->g;
  const tt_node mul = tt_def_op(g, v, TT_OP_MUL);
  out->gamma = TT_NONE;
  if (is_normalised(g, v, out)) return true;
  for (int side = 0; mul != TT_NONE && side < 2; side++) {
    const tt_value inner = tt_nod(g, mul)->in[side], gamma = tt_nod(g, mul)->in[1 - side];
    if (!tt_match_sole(m, inner) || !is_normalised(g, inner, out) || !is_row_vector(g, gamma, out->x)) continue;
    out->gamma = gamma;
    return true;
  }
  return false;
}

static bool is_norm(const tt_match *m, tt_value v, norm *out) {
  const tt_graph *g = m->g;
  const tt_node add = tt_def_op(g, v, TT_OP_ADD);
  out->beta = TT_NONE;
  if (is_scaled(m, v, out)) return true;
  for (int side = 0; add != TT_NONE && side < 2; side++) {
    const tt_value inner = tt_nod(g, add)->in[side], beta = tt_nod(g, add)->in[1 - side];
    if (!tt_match_sole(m, inner) || !is_scaled(m, inner, out) || !is_row_vector(g, beta, out->x)) continue;
    out->beta = beta;
    return true;
  }
  return false;
}

static tt_value filled(tt_match *m, int64_t count, float with) {
  float *data = TT_NEW_N(m->ctx->scratch, float, count);
  for (int64_t i = 0; i < count; i++) data[i] = with;
  return tt_graph_const(m->g, tt_type_make(TT_F32, 1, &count), data);
}

static bool normalise(tt_match *m, tt_node n) {
  norm f;
  if (!is_norm(m, tt_nod(m->g, n)->out[0], &f) || tt_typ(m->g, f.x)->dtype != TT_F32) return false;
  const int64_t width = tt_type_last(tt_typ(m->g, f.x));
  const tt_value gamma = f.gamma == TT_NONE ? filled(m, width, 1) : f.gamma;
  const tt_value beta = f.beta == TT_NONE ? filled(m, width, 0) : f.beta;
  const tt_attr epsilon = tt_attr_float(TT_A_EPSILON, f.epsilon);
  tt_builder b = tt_match_builder(m, n);
  return tt_match_replace(m, n, tt_build3(&b, TT_OP_LAYERNORM, f.x, gamma, beta, 1, &epsilon));
}

tt_pass_result tt_canon_layernorm(tt_graph *g, tt_pass_ctx *ctx) { return tt_match_run(g, ctx, TT_OP_COUNT, normalise); }
