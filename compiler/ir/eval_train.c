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

typedef struct adam {
  double beta1, beta2, epsilon, decay, coef, lr, bc1, bc2;
} adam;

/* Attributes, and the scalar operands from `at` on. */
static adam adam_of(const tt_eval_ctx *c, int at) {
  return (adam){.beta1 = tt_eval_float(c, TT_A_BETA1),
                .beta2 = tt_eval_float(c, TT_A_BETA2),
                .epsilon = tt_eval_float(c, TT_A_EPSILON),
                .decay = tt_eval_float(c, TT_A_WEIGHT_DECAY),
                .coef = c->in[at].d[0],
                .lr = c->in[at + 1].d[0],
                .bc1 = c->in[at + 2].d[0],
                .bc2 = c->in[at + 3].d[0]};
}

/* Element i of m and v with gradient g, and what w loses by it at rate `lr`. */
static double adam_move(tt_eval_ctx *c, const adam *a, int64_t i, double g, double lr) {
  double m = a->beta1 * c->in[1].d[i] + (1 - a->beta1) * g;
  double v = a->beta2 * c->in[2].d[i] + (1 - a->beta2) * g * g;
  c->out[1].d[i] = m;
  c->out[2].d[i] = v;
  return lr * (m / a->bc1) / (sqrt(v / a->bc2) + a->epsilon);
}

/* (w, m, v, ..., g, coef, lr, bc1, bc2) -> w, m, v; g is operand `g_at`. The formulas are in ops.def. */
static void adamw(tt_eval_ctx *c, int g_at) {
  const adam a = adam_of(c, g_at + 1);
  int64_t n = tt_type_count(&c->in[0].type);
  for (int64_t i = 0; i < n; i++) {
    double w = c->in[0].d[i];
    c->out[0].d[i] = w - a.lr * a.decay * w - adam_move(c, &a, i, a.coef * c->in[g_at].d[i], a.lr);
  }
}

void tt_eval_adamw(tt_eval_ctx *c) { adamw(c, 3); }

void tt_eval_adamw_ema(tt_eval_ctx *c) {
  double beta = tt_eval_float(c, TT_A_EMA_BETA);
  int64_t n = tt_type_count(&c->in[0].type);
  adamw(c, 4);
  for (int64_t i = 0; i < n; i++) c->out[3].d[i] = beta * c->in[3].d[i] + (1 - beta) * c->out[0].d[i];
}

/* (w, m, v, sum, count, period, g, coef, lr, bc1, bc2) -> w, m, v, sum, count */
void tt_eval_adamw_ramp(tt_eval_ctx *c) {
  const adam a = adam_of(c, 7);
  int64_t n = tt_type_count(&c->in[0].type);
  for (int64_t i = 0; i < n; i++) {
    double w = c->in[0].d[i] - a.lr * a.decay * c->in[0].d[i], g = a.coef * c->in[6].d[i];
    double sum = c->in[3].d[i] + (isfinite(g) ? g : 0), count = c->in[4].d[i] + 1;
    bool due = fmod(count, fmax(c->in[5].d[i], 1)) == 0;
    c->out[0].d[i] = due ? w - adam_move(c, &a, i, sum / count, count * a.lr) : w;
    for (int k = 1; k < 3 && !due; k++) c->out[k].d[i] = c->in[k].d[i];
    c->out[3].d[i] = due ? 0 : sum;
    c->out[4].d[i] = due ? 0 : count;
  }
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
