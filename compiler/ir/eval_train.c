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

/* (w, m, v, g, coef, lr, bc1, bc2) -> w, m, v; the formulas are in ops.def. */
void tt_eval_adamw(tt_eval_ctx *c) {
  double beta1 = tt_eval_float(c, TT_A_BETA1), beta2 = tt_eval_float(c, TT_A_BETA2);
  double epsilon = tt_eval_float(c, TT_A_EPSILON), decay = tt_eval_float(c, TT_A_WEIGHT_DECAY);
  double coef = c->in[4].d[0], lr = c->in[5].d[0], bc1 = c->in[6].d[0], bc2 = c->in[7].d[0];
  int64_t n = tt_type_count(&c->in[0].type);
  for (int64_t i = 0; i < n; i++) {
    double w = c->in[0].d[i], g = coef * c->in[3].d[i];
    double m = beta1 * c->in[1].d[i] + (1 - beta1) * g;
    double v = beta2 * c->in[2].d[i] + (1 - beta2) * g * g;
    c->out[0].d[i] = w - lr * decay * w - lr * (m / bc1) / (sqrt(v / bc2) + epsilon);
    c->out[1].d[i] = m;
    c->out[2].d[i] = v;
  }
}
