/* Rules of the transformer's pieces: softmax, layernorm, attention, loss, each with its gradient. */
#include "compiler/ir/eval_rules.h"
#include <math.h>

/* log(sum(exp(x))) of n numbers, without overflow. */
static double log_sum_exp(const double *x, int64_t n) {
  double max = -(double)INFINITY, sum = 0;
  for (int64_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
  for (int64_t i = 0; i < n; i++) sum += exp(x[i] - max);
  return max + log(sum);
}

void tt_eval_softmax(tt_eval_ctx *c) {
  int64_t rows = tt_type_rows(&c->in[0].type), n = tt_type_last(&c->in[0].type);
  for (int64_t r = 0; r < rows; r++) {
    const double *x = c->in[0].d + r * n;
    double *y = c->out[0].d + r * n, max = -(double)INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++) sum += y[i] = exp(x[i] - max);
    for (int64_t i = 0; i < n; i++) y[i] /= sum;
  }
}

/* dx = y * (dy - sum(dy * y)) */
void tt_eval_softmax_grad(tt_eval_ctx *c) {
  int64_t rows = tt_type_rows(&c->in[0].type), n = tt_type_last(&c->in[0].type);
  for (int64_t r = 0; r < rows; r++) {
    const double *dy = c->in[0].d + r * n, *y = c->in[1].d + r * n;
    double dot = 0;
    for (int64_t i = 0; i < n; i++) dot += dy[i] * y[i];
    for (int64_t i = 0; i < n; i++) c->out[0].d[r * n + i] = y[i] * (dy[i] - dot);
  }
}

/* (x [..,D], gamma, beta) -> y = (x - mean) * rstd * gamma + beta, mean, rstd; the variance is the biased one. */
void tt_eval_layernorm(tt_eval_ctx *c) {
  int64_t rows = tt_type_rows(&c->in[0].type), D = tt_type_last(&c->in[0].type);
  double epsilon = tt_eval_float(c, TT_A_EPSILON);
  for (int64_t r = 0; r < rows; r++) {
    const double *x = c->in[0].d + r * D;
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < D; i++) mean += x[i] / (double)D;
    for (int64_t i = 0; i < D; i++) variance += (x[i] - mean) * (x[i] - mean) / (double)D;
    double rstd = 1 / sqrt(variance + epsilon);
    for (int64_t i = 0; i < D; i++) c->out[0].d[r * D + i] = (x[i] - mean) * rstd * c->in[1].d[i] + c->in[2].d[i];
    c->out[1].d[r] = mean;
    c->out[2].d[r] = rstd;
  }
}

/* (dy, x, gamma, mean, rstd) -> dx, dgamma, dbeta. With n = (x - mean) * rstd and g = dy * gamma:
 * dx = rstd * (g - mean(g) - n * mean(g * n)), dgamma = sum of dy * n over rows, dbeta = sum of dy. */
void tt_eval_layernorm_grad(tt_eval_ctx *c) {
  int64_t rows = tt_type_rows(&c->in[1].type), D = tt_type_last(&c->in[1].type);
  const double *gamma = c->in[2].d;
  for (int64_t r = 0; r < rows; r++) {
    const double *dy = c->in[0].d + r * D, *x = c->in[1].d + r * D;
    double mean = c->in[3].d[r], rstd = c->in[4].d[r], mean_g = 0, mean_gn = 0;
    for (int64_t i = 0; i < D; i++) {
      double n = (x[i] - mean) * rstd, g = dy[i] * gamma[i];
      mean_g += g / (double)D;
      mean_gn += g * n / (double)D;
      c->out[1].d[i] += dy[i] * n;
      c->out[2].d[i] += dy[i];
    }
    for (int64_t i = 0; i < D; i++)
      c->out[0].d[r * D + i] = rstd * (dy[i] * gamma[i] - mean_g - (x[i] - mean) * rstd * mean_gn);
  }
}

/* Heads addressed in place: element i of token n of head h of batch b is base[part] + (b * N + n) * row + h * d + i. */
typedef struct heads {
  double *part[3]; /* q, k, v */
  int64_t B, N, Q, H, d, row; /* Q: tokens that ask, the first ones */
} heads;

static heads view_heads(const tt_eval_ctx *c, const tt_tensor *t, int n) {
  const tt_type *type = &t[0].type;
  heads v = {.B = type->dim[0], .N = type->dim[1], .H = tt_eval_int(c, TT_A_HEADS), .row = type->dim[2]};
  int64_t width = n == 1 ? v.row / 3 : v.row;
  v.d = width / v.H;
  v.Q = tt_eval_int(c, TT_A_QUERIES);
  if (v.Q == 0) v.Q = v.N;
  for (int i = 0; i < 3; i++) v.part[i] = n == 1 ? t[0].d + i * width : t[i].d;
  return v;
}

static double *head_row(const heads *v, int part, int64_t b, int64_t h, int64_t n) {
  return v->part[part] + (b * v->N + n) * v->row + h * v->d;
}

static double dot(const double *x, const double *y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
  return sum;
}

static void add_scaled(double *to, double a, const double *x, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] += a * x[i];
}

void tt_eval_attention(tt_eval_ctx *c) {
  heads v = view_heads(c, c->in, c->n_in);
  double scale = tt_eval_float(c, TT_A_SCALE), *score = TT_NEW_N(c->arena, double, v.N);
  for (int64_t bh = 0; bh < v.B * v.H; bh++) {
    int64_t b = bh / v.H, h = bh % v.H;
    for (int64_t i = 0; i < v.Q; i++) {
      const double *q = head_row(&v, 0, b, h, i);
      for (int64_t j = 0; j < v.N; j++) score[j] = scale * dot(q, head_row(&v, 1, b, h, j), v.d);
      double lse = c->out[1].d[bh * v.Q + i] = log_sum_exp(score, v.N);
      double *o = c->out[0].d + (b * v.Q + i) * v.H * v.d + h * v.d;
      for (int64_t j = 0; j < v.N; j++) add_scaled(o, exp(score[j] - lse), head_row(&v, 2, b, h, j), v.d);
    }
  }
}

/* (do, lse, qkv | q, k, v) -> gradients likewise. P_ij = exp(scale q_i.k_j - lse_i); dv_j = sum_i P_ij do_i; dP_ij = do_i.v_j;
 * dS_ij = P_ij (dP_ij - D_i), D_i = sum_j P_ij dP_ij; dq_i = scale sum_j dS_ij k_j; dk_j = scale sum_i dS_ij q_i. D_i is
 * do_i.o_i, too, but so the forward's result need not be kept. Tokens that do not ask have dq = 0. */
void tt_eval_attention_grad(tt_eval_ctx *c) {
  heads v = view_heads(c, c->in + 2, c->n_in - 2), g = view_heads(c, c->out, c->n_out);
  double scale = tt_eval_float(c, TT_A_SCALE), *p = TT_NEW_N(c->arena, double, v.N), *dp = TT_NEW_N(c->arena, double, v.N);
  for (int64_t index = 0; index < v.B * v.H * v.Q; index++) { /* in the order of lse [B,H,Q] */
    int64_t b = index / (v.H * v.Q), h = index / v.Q % v.H, i = index % v.Q;
    int64_t row = (b * v.Q + i) * v.H * v.d + h * v.d;
    const double *d_o = c->in[0].d + row, *q = head_row(&v, 0, b, h, i);
    for (int64_t j = 0; j < v.N; j++) {
      p[j] = exp(scale * dot(q, head_row(&v, 1, b, h, j), v.d) - c->in[1].d[index]);
      dp[j] = dot(d_o, head_row(&v, 2, b, h, j), v.d);
    }
    double D = dot(p, dp, v.N);
    for (int64_t j = 0; j < v.N; j++) {
      double ds = p[j] * (dp[j] - D);
      add_scaled(head_row(&g, 0, b, h, i), scale * ds, head_row(&v, 1, b, h, j), v.d);
      add_scaled(head_row(&g, 1, b, h, j), scale * ds, q, v.d);
      add_scaled(head_row(&g, 2, b, h, j), p[j], d_o, v.d);
    }
  }
}

/* What the loss compares with: (1 - smoothing) * label + smoothing / C. A hard label outside [0, C) is no class. */
static double target(const tt_tensor *labels, int64_t row, int64_t class, int64_t C, double smoothing) {
  bool hard = labels->type.rank == 1;
  double label = hard ? labels->d[row] == (double)class : labels->d[row * C + class];
  return (1 - smoothing) * label + smoothing / (double)C;
}

/* (logits [B,C], labels) -> -sum_c target_c log softmax(logits)_c */
void tt_eval_xent(tt_eval_ctx *c) {
  int64_t B = c->in[0].type.dim[0], C = c->in[0].type.dim[1];
  double smoothing = tt_eval_float(c, TT_A_SMOOTHING);
  for (int64_t b = 0; b < B; b++) {
    const double *x = c->in[0].d + b * C;
    double lse = log_sum_exp(x, C);
    for (int64_t k = 0; k < C; k++) c->out[0].d[b] += target(&c->in[1], b, k, C, smoothing) * (lse - x[k]);
  }
}

/* (dlosses [B], logits, labels) -> dloss * (softmax * sum(target) - target); soft labels need not sum to 1. */
void tt_eval_xent_grad(tt_eval_ctx *c) {
  int64_t B = c->in[1].type.dim[0], C = c->in[1].type.dim[1];
  double smoothing = tt_eval_float(c, TT_A_SMOOTHING);
  for (int64_t b = 0; b < B; b++) {
    const double *x = c->in[1].d + b * C;
    double lse = log_sum_exp(x, C), mass = 0;
    for (int64_t k = 0; k < C; k++) mass += target(&c->in[2], b, k, C, smoothing);
    for (int64_t k = 0; k < C; k++)
      c->out[0].d[b * C + k] = c->in[0].d[b] * (exp(x[k] - lse) * mass - target(&c->in[2], b, k, C, smoothing));
  }
}

/* Lowest index of the largest of n numbers. */
static int64_t arg_max(const double *x, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
  return best;
}

void tt_eval_correct(tt_eval_ctx *c) {
  int64_t B = c->in[0].type.dim[0], C = c->in[0].type.dim[1];
  const tt_tensor *labels = &c->in[1];
  for (int64_t b = 0; b < B; b++) {
    double label = labels->type.rank == 1 ? labels->d[b] : (double)arg_max(labels->d + b * C, C);
    c->out[0].d[b] = (double)arg_max(c->in[0].d + b * C, C) == label;
  }
}
