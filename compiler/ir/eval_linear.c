/* Rules of float linear algebra. */
#include "compiler/ir/eval_rules.h"

/* One matrix product: element (i, k) of a is a[i * a_row + k * a_col], of b^T likewise; out [M,N]. */
typedef struct matrix {
  const double *d;
  int64_t row, col;
} matrix;

static void multiply(matrix a, matrix b, int64_t M, int64_t N, int64_t K, double *out) {
  for (int64_t i = 0; i < M; i++)
    for (int64_t j = 0; j < N; j++) {
      double sum = 0;
      for (int64_t k = 0; k < K; k++) sum += a.d[i * a.row + k * a.col] * b.d[k * b.row + j * b.col];
      out[i * N + j] = sum;
    }
}

/* a [.., M,K], b [.., K,N] -> [.., M,N], leading dimensions broadcast; {trans_*} swaps an operand's last two. */
void tt_eval_matmul(tt_eval_ctx *c) {
  const tt_tensor *a = &c->in[0], *b = &c->in[1];
  tt_tensor *out = &c->out[0];
  bool ta = tt_eval_int(c, TT_A_TRANS_A) != 0, tb = tt_eval_int(c, TT_A_TRANS_B) != 0;
  int64_t M = out->type.dim[out->type.rank - 2], N = out->type.dim[out->type.rank - 1];
  int64_t K = a->type.dim[a->type.rank - (ta ? 2 : 1)];
  tt_type lead = out->type, lead_a = a->type, lead_b = b->type;
  lead.rank = (uint8_t)(lead.rank - 2);
  lead_a.rank = (uint8_t)(lead_a.rank - 2);
  lead_b.rank = (uint8_t)(lead_b.rank - 2);
  int64_t batches = tt_type_count(&lead);
  for (int64_t batch = 0; batch < batches; batch++) {
    const double *x = a->d + tt_broadcast_offset(&lead, batch, &lead_a) * M * K;
    const double *y = b->d + tt_broadcast_offset(&lead, batch, &lead_b) * K * N;
    matrix mx = {x, ta ? 1 : K, ta ? M : 1}, my = {y, tb ? 1 : N, tb ? K : 1};
    multiply(mx, my, M, N, K, out->d + batch * M * N);
  }
}

/* x [..,D], w [C,D], b [C]? -> [..,C] */
void tt_eval_linear(tt_eval_ctx *c) {
  const tt_type *w = &c->in[1].type;
  int64_t rows = tt_type_rows(&c->in[0].type), C = w->dim[0], D = w->dim[1];
  double *out = c->out[0].d;
  multiply((matrix){c->in[0].d, D, 1}, (matrix){c->in[1].d, 1, D}, rows, C, D, out);
  for (int64_t i = 0; i < rows * C && c->n_in == 3; i++) out[i] += c->in[2].d[i % C];
}

/* One output of conv: the window of w's filter over x's image, zero outside. */
static double conv_window(tt_eval_ctx *c, const int64_t at[4]) { /* at = batch, filter, row, column */
  const int64_t *strides = tt_eval_ints(c, TT_A_STRIDES), *pads = tt_eval_ints(c, TT_A_PADS);
  const int64_t *dilations = tt_eval_ints(c, TT_A_DILATIONS);
  const tt_type *x = &c->in[0].type, *w = &c->in[1].type;
  int64_t filters_per_group = w->dim[0] / tt_eval_int(c, TT_A_GROUP);
  int64_t first_channel = at[1] / filters_per_group * w->dim[1], taps = w->dim[1] * w->dim[2] * w->dim[3];
  double sum = c->n_in == 3 ? c->in[2].d[at[1]] : 0;
  for (int64_t t = 0; t < taps; t++) {
    int64_t tap[4] = {at[1], t / (w->dim[2] * w->dim[3]), t / w->dim[3] % w->dim[2], t % w->dim[3]};
    int64_t y = at[2] * strides[0] - pads[0] + tap[2] * dilations[0];
    int64_t z = at[3] * strides[1] - pads[1] + tap[3] * dilations[1];
    if (y < 0 || y >= x->dim[2] || z < 0 || z >= x->dim[3]) continue;
    int64_t from[4] = {at[0], first_channel + tap[1], y, z};
    sum += c->in[0].d[tt_offset(x, from)] * c->in[1].d[tt_offset(w, tap)];
  }
  return sum;
}

/* x [B,C,H,W], w [D,C/group,kh,kw], b [D]? -> [B,D,H',W'] */
void tt_eval_conv(tt_eval_ctx *c) {
  tt_tensor *out = &c->out[0];
  int64_t n = tt_type_count(&out->type), at[4];
  for (int64_t i = 0; i < n; i++) {
    tt_coords(&out->type, i, at);
    out->d[i] = conv_window(c, at);
  }
}
