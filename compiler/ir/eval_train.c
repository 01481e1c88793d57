/* Rules of the optimizer. */
#include "compiler/ir/eval_rules.h"
#include <math.h>

void tt_eval_sumsq(tt_eval_ctx *c) {
  for (int k = 0; k < c->n_in; k++) {
    int64_t n = tt_type_count(&c->in[k].type);
    for (int64_t i = 0; i < n; i++) c->out[0].d[k] += c->in[k].d[i] * c->in[k].d[i];
  }
}

/* (sumsq [n]) -> coef [], norm [] */
void tt_eval_clip_coef(tt_eval_ctx *c) {
  double max_norm = tt_eval_float(c, TT_A_MAX_NORM), sum = 0;
  int64_t n = tt_type_count(&c->in[0].type);
  for (int64_t i = 0; i < n; i++) sum += c->in[0].d[i];
  double norm = sqrt(sum), coef = max_norm / (norm + 1e-6);
  c->out[0].d[0] = max_norm <= 0 || coef > 1 ? 1 : coef;
  c->out[1].d[0] = norm;
}

/* (w, m, v, ..., g, coef, lr, bc1, bc2) -> w, m, v; g is operand `g_at`. The formulas are in ops.def. */
static void adamw(tt_eval_ctx *c, int g_at) {
  const tt_tensor *scalars = c->in + g_at + 1;
  double beta1 = tt_eval_float(c, TT_A_BETA1), beta2 = tt_eval_float(c, TT_A_BETA2);
  double epsilon = tt_eval_float(c, TT_A_EPSILON), decay = tt_eval_float(c, TT_A_WEIGHT_DECAY);
  double coef = scalars[0].d[0], lr = scalars[1].d[0], bc1 = scalars[2].d[0], bc2 = scalars[3].d[0];
  int64_t n = tt_type_count(&c->in[0].type);
  for (int64_t i = 0; i < n; i++) {
    double w = c->in[0].d[i], g = coef * c->in[g_at].d[i];
    double m = beta1 * c->in[1].d[i] + (1 - beta1) * g;
    double v = beta2 * c->in[2].d[i] + (1 - beta2) * g * g;
    c->out[0].d[i] = w - lr * decay * w - lr * (m / bc1) / (sqrt(v / bc2) + epsilon);
    c->out[1].d[i] = m;
    c->out[2].d[i] = v;
  }
}

void tt_eval_adamw(tt_eval_ctx *c) { adamw(c, 3); }

void tt_eval_adamw_ema(tt_eval_ctx *c) {
  double beta = tt_eval_float(c, TT_A_EMA_BETA);
  int64_t n = tt_type_count(&c->in[0].type);
  adamw(c, 4);
  for (int64_t i = 0; i < n; i++) c->out[3].d[i] = beta * c->in[3].d[i] + (1 - beta) * c->out[0].d[i];
}

/* (w, last, mean, rate, mark, q) -> w, last, mean, rate, mark */
void tt_eval_freeze(tt_eval_ctx *c) {
  enum { NEW, UNCHANGED, UP, DOWN, FROZEN };
  double threshold = tt_eval_float(c, TT_A_THRESHOLD), momentum = tt_eval_float(c, TT_A_MOMENTUM);
  int64_t n = tt_type_count(&c->in[0].type);
  for (int64_t i = 0; i < n; i++) {
    double w = c->in[0].d[i], mean = c->in[2].d[i], rate = c->in[3].d[i], q = c->in[5].d[i];
    int mark = (int)c->in[4].d[i];
    double change = mark == NEW ? 0 : q - c->in[1].d[i];
    if (mark != FROZEN) {
      bool turn = (mark == DOWN && change > 0) || (mark == UP && change < 0);
      rate = (1 - momentum) * rate + (turn ? momentum : 0);
      mean = mark == NEW ? q : (1 - momentum) * mean + momentum * q;
      if (mark == NEW) mark = UNCHANGED;
      if (change != 0) mark = change > 0 ? UP : DOWN;
      if (rate > threshold) mark = FROZEN;
    }
    const double out[] = {mark == FROZEN ? mean : w, q, mean, rate, mark};
    for (int k = 0; k < 5; k++) c->out[k].d[i] = out[k];
  }
}
