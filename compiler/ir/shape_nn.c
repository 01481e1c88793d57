/* Shape rules of linear algebra and transformer pieces. */
#include "compiler/ir/shape.h"

/* a [.., M,K] ({trans_a}: [.., K,M]), b [.., K,N] ({trans_b}: [.., N,K]) -> [.., M,N], leading dimensions broadcast. */
bool tt_shape_matmul(tt_shape_ctx *c) {
  const tt_type *a = tt_shape_in(c, 0), *b = tt_shape_in(c, 1);
  char a_text[TT_TYPE_TEXT], b_text[TT_TYPE_TEXT];
  TT_TRY(tt_shape_numeric(c, 0) && tt_shape_numeric(c, 1));
  TT_TRY(tt_shape_flag(c, TT_A_TRANS_A) && tt_shape_flag(c, TT_A_TRANS_B));
  for (int i = 0; i < 2; i++) {
    if (tt_shape_in(c, i)->rank < 2) return tt_shape_mismatch(c, i, "at least 2 dimensions");
  }
  if (a->dtype != b->dtype) return tt_shape_mismatch(c, 1, "element type %s as input 0", tt_dtype_name((tt_dtype)a->dtype));
  bool ta = tt_shape_int(c, TT_A_TRANS_A) == 1, tb = tt_shape_int(c, TT_A_TRANS_B) == 1;
  int64_t m = a->dim[a->rank - (ta ? 1 : 2)], ka = a->dim[a->rank - (ta ? 2 : 1)];
  int64_t kb = b->dim[b->rank - (tb ? 1 : 2)], n = b->dim[b->rank - (tb ? 2 : 1)];
  if (ka != kb) return tt_shape_mismatch(c, 1, tb ? "[..,*,%lld]" : "[..,%lld,*]", (long long)ka);
  tt_type lead_a = tt_type_make((tt_dtype)a->dtype, a->rank - 2, a->dim),
          lead_b = tt_type_make((tt_dtype)b->dtype, b->rank - 2, b->dim);
  tt_type lead;
  if (!tt_broadcast(&lead_a, &lead_b, &lead))
    return tt_shape_fail(c, "inputs 0 and 1 are %s and %s, whose leading dimensions do not broadcast",
                         tt_type_print(a, a_text, sizeof a_text), tt_type_print(b, b_text, sizeof b_text));
  lead.dim[lead.rank++] = m;
  lead.dim[lead.rank++] = n;
  c->out[0] = lead;
  return true;
}

/* x [..,D], w [C,D], b [C]? -> [..,C] */
bool tt_shape_linear(tt_shape_ctx *c) {
  TT_TRY(tt_shape_f32(c, 0, -1) && tt_shape_f32(c, 1, 2));
  const tt_type *x = tt_shape_in(c, 0), *w = tt_shape_in(c, 1);
  if (w->dim[1] != tt_type_last(x)) return tt_shape_mismatch(c, 1, "f32[*,%lld]", (long long)tt_type_last(x));
  if (c->n_in == 3) TT_TRY(tt_shape_f32_dims(c, 2, 1, w->dim));
  c->out[0] = *x;
  c->out[0].dim[x->rank - 1] = w->dim[0];
  return true;
}

/* Output size of one spatial dimension, or 0 after a diagnostic. */
static int64_t conv_size(tt_shape_ctx *c, int d, int64_t begin, int64_t end, int64_t stride, int64_t dilation) {
  static const int64_t limit = (int64_t)1 << 31; /* keeps every sum and product below within int64 */
  int64_t size = tt_shape_in(c, 0)->dim[2 + d], kernel = tt_shape_in(c, 1)->dim[2 + d];
  bool sane = begin >= 0 && end >= 0 && stride >= 1 && dilation >= 1 && kernel >= 1;
  if (!sane || begin > limit || end > limit || stride > limit || dilation > limit || kernel > limit || size > limit) {
    tt_shape_fail(c, "dimension %d: kernel %lld, stride %lld, pads %lld and %lld, dilation %lld are not supported", 2 + d,
                  (long long)kernel, (long long)stride, (long long)begin, (long long)end, (long long)dilation);
    return 0;
  }
  int64_t span = size + begin + end - ((kernel - 1) * dilation + 1);
  if (span >= 0) return span / stride + 1;
  tt_shape_fail(c, "dimension %d: a kernel of %lld with dilation %lld is larger than the padded input of %lld", 2 + d,
                (long long)kernel, (long long)dilation, (long long)(size + begin + end));
  return 0;
}

/* x [B,C,H,W], w [D,C/group,kh,kw], b [D]? -> [B,D,H',W']; pads as ONNX: top, left, bottom, right. */
bool tt_shape_conv(tt_shape_ctx *c) {
  TT_TRY(tt_shape_f32(c, 0, 4) && tt_shape_f32(c, 1, 4));
  const tt_type *x = tt_shape_in(c, 0), *w = tt_shape_in(c, 1);
  const tt_attr *strides = tt_shape_ints(c, TT_A_STRIDES, 2);
  TT_TRY(strides);
  const tt_attr *pads = tt_shape_ints(c, TT_A_PADS, 4);
  TT_TRY(pads);
  const tt_attr *dilations = tt_shape_ints(c, TT_A_DILATIONS, 2);
  TT_TRY(dilations);
  int64_t group = tt_shape_int(c, TT_A_GROUP);
  if (group < 1 || x->dim[1] % group != 0 || w->dim[0] % group != 0)
    return tt_shape_fail(c, "attribute 'group' is %lld, expected a divisor of %lld input and %lld output channels",
                         (long long)group, (long long)x->dim[1], (long long)w->dim[0]);
  if (w->dim[1] != x->dim[1] / group) return tt_shape_mismatch(c, 1, "f32[*,%lld,*,*]", (long long)(x->dim[1] / group));
  if (c->n_in == 3) TT_TRY(tt_shape_f32_dims(c, 2, 1, w->dim));
  int64_t size[2];
  for (int d = 0; d < 2; d++) {
    size[d] = conv_size(c, d, pads->as.ints.v[d], pads->as.ints.v[2 + d], strides->as.ints.v[d], dilations->as.ints.v[d]);
    TT_TRY(size[d] > 0);
  }
  c->out[0] = tt_type_make(TT_F32, 4, (int64_t[]){x->dim[0], w->dim[0], size[0], size[1]});
  return true;
}

/* x [..,D], gamma [D], beta [D] -> y as x, mean [rows], rstd [rows] */
bool tt_shape_layernorm(tt_shape_ctx *c) {
  TT_TRY(tt_shape_f32(c, 0, -1));
  const tt_type *x = tt_shape_in(c, 0);
  int64_t last = tt_type_last(x), rows = tt_type_rows(x);
  TT_TRY(tt_shape_f32_dims(c, 1, 1, &last) && tt_shape_f32_dims(c, 2, 1, &last));
  if (!(tt_shape_float(c, TT_A_EPSILON) >= 0)) return tt_shape_fail(c, "attribute 'epsilon' is negative");
  c->out[0] = *x;
  c->out[1] = c->out[2] = tt_type_make(TT_F32, 1, &rows);
  return true;
}

/* dy, x [..,D], gamma [D], mean [rows], rstd [rows] -> dx as x, dgamma [D], dbeta [D] */
bool tt_shape_layernorm_grad(tt_shape_ctx *c) {
  TT_TRY(tt_shape_f32(c, 1, -1) && tt_shape_same(c, 0, 1));
  const tt_type *x = tt_shape_in(c, 1);
  int64_t last = tt_type_last(x), rows = tt_type_rows(x);
  TT_TRY(tt_shape_f32_dims(c, 2, 1, &last));
  TT_TRY(tt_shape_f32_dims(c, 3, 1, &rows) && tt_shape_f32_dims(c, 4, 1, &rows));
  c->out[0] = *x;
  c->out[1] = c->out[2] = tt_type_make(TT_F32, 1, &last);
  return true;
}

/* Width of the heads together, H*d, from operands first.. (one packed qkv, or q, k, v); 0 after a diagnostic. */
static int64_t attention_width(tt_shape_ctx *c, int first, int n) {
  int64_t heads = tt_shape_int(c, TT_A_HEADS), parts = n == 1 ? 3 : 1;
  if (!tt_shape_f32(c, first, 3)) return 0;
  for (int i = first + 1; i < first + n; i++) {
    if (!tt_shape_same(c, i, first)) return 0;
  }
  int64_t width = tt_shape_in(c, first)->dim[2];
  if (heads < 1) {
    tt_shape_fail(c, "attribute 'heads' is %lld, expected at least 1", (long long)heads);
    return 0;
  }
  if (width > 0 && width % parts == 0 && (width / parts) % heads == 0) return width / parts;
  tt_shape_mismatch(c, first, "f32[*,*,%s%lld*d] for %lld head%s", n == 1 ? "3*" : "", (long long)heads, (long long)heads,
                    heads == 1 ? "" : "s");
  return 0;
}

/* How many tokens ask, Q: the first `queries` of N, all where that is absent; 0 after a diagnostic. */
static int64_t attention_queries(tt_shape_ctx *c, int64_t N) {
  const tt_attr *queries = tt_shape_attr(c, TT_A_QUERIES);
  if (!queries && N > 0) return N;
  if (queries && queries->as.i >= 1 && queries->as.i <= N) return queries->as.i;
  if (N < 1)
    tt_shape_fail(c, "attention of %lld tokens, expected at least 1", (long long)N);
  else
    tt_shape_fail(c, "attribute 'queries' is %lld, expected 1 to %lld, the number of tokens", (long long)queries->as.i,
                  (long long)N);
  return 0;
}

/* qkv [B,N,3*H*d] | q, k, v [B,N,H*d] -> o [B,Q,H*d], lse [B,H,Q] */
bool tt_shape_attention(tt_shape_ctx *c) {
  if (c->n_in == 2) return tt_shape_fail(c, "attention has 2 inputs, expected packed qkv, or q, k and v");
  int64_t width = attention_width(c, 0, c->n_in);
  TT_TRY(width > 0);
  const tt_type *x = tt_shape_in(c, 0);
  const int64_t queries = attention_queries(c, x->dim[1]);
  TT_TRY(queries > 0);
  c->out[0] = tt_type_make(TT_F32, 3, (int64_t[]){x->dim[0], queries, width});
  c->out[1] = tt_type_make(TT_F32, 3, (int64_t[]){x->dim[0], tt_shape_int(c, TT_A_HEADS), queries});
  return true;
}

/* do [B,Q,H*d], lse [B,H,Q], qkv | q, k, v -> dqkv | dq, dk, dv */
bool tt_shape_attention_grad(tt_shape_ctx *c) {
  if (c->n_in == 4)
    return tt_shape_fail(c, "attention_grad has 4 inputs, expected do, lse and packed qkv, or q, k and v");
  int n = c->n_in - 2;
  int64_t width = attention_width(c, 2, n);
  TT_TRY(width > 0);
  const tt_type *x = tt_shape_in(c, 2);
  const int64_t queries = attention_queries(c, x->dim[1]);
  TT_TRY(queries > 0);
  const int64_t o_dim[3] = {x->dim[0], queries, width};
  const int64_t lse_dim[3] = {x->dim[0], tt_shape_int(c, TT_A_HEADS), queries};
  TT_TRY(tt_shape_f32_dims(c, 0, 3, o_dim) && tt_shape_f32_dims(c, 1, 3, lse_dim));
  c->n_out = n;
  for (int i = 0; i < n; i++) c->out[i] = *x;
  return true;
}
