/* Gradient norms, clipping, AdamW. */
#include "tests/ops/sweep.h"
#include <math.h>

static void adamw(sweep *s, tt_type t, double decay) {
  tt_attr a[4] = {tt_attr_float(TT_A_BETA1, 0.9), tt_attr_float(TT_A_BETA2, 0.999), tt_attr_float(TT_A_EPSILON, 1e-8),
                  tt_attr_float(TT_A_WEIGHT_DECAY, decay)};
  sweep_begin(s);
  sweep_in(s, t, -1, 1);
  sweep_in(s, t, -0.1, 0.1);
  sweep_in(s, t, 0, 0.01);
  sweep_in(s, t, -1, 1);
  sweep_in(s, tt_type_scalar(TT_F32), 0.5, 1);
  sweep_in(s, tt_type_scalar(TT_F32), 1e-3, 1e-2);
  sweep_in(s, tt_type_scalar(TT_F32), 0.1, 1);
  sweep_in(s, tt_type_scalar(TT_F32), 0.01, 1);
  sweep_op(s, TT_OP_ADAMW, 4, a, 3e-6);
}

static void adamw_ema(sweep *s, tt_type t) {
  tt_attr a[5] = {tt_attr_float(TT_A_BETA1, 0.9), tt_attr_float(TT_A_BETA2, 0.999), tt_attr_float(TT_A_EPSILON, 1e-8),
                  tt_attr_float(TT_A_WEIGHT_DECAY, 0.05), tt_attr_float(TT_A_EMA_BETA, 0.9)};
  sweep_begin(s);
  sweep_in(s, t, -1, 1);
  sweep_in(s, t, -0.1, 0.1);
  sweep_in(s, t, 0, 0.01);
  sweep_in(s, t, -1, 1);
  sweep_in(s, t, -1, 1);
  for (int i = 0; i < 4; i++) sweep_in(s, tt_type_scalar(TT_F32), i == 1 ? 1e-3 : 0.1, i == 1 ? 1e-2 : 1);
  sweep_op(s, TT_OP_ADAMW_EMA, 5, a, 3e-6);
}

/* Elements that are due and that are not, a period of 0 among them; gradients that are not finite count and add nothing. */
static void adamw_ramp(sweep *s, tt_type t) {
  tt_attr a[4] = {tt_attr_float(TT_A_BETA1, 0.9), tt_attr_float(TT_A_BETA2, 0.999), tt_attr_float(TT_A_EPSILON, 1e-8),
                  tt_attr_float(TT_A_WEIGHT_DECAY, 0.05)};
  int64_t n = tt_type_count(&t);
  sweep_begin(s);
  double *count = TT_NEW_N(s->arena, double, n), *period = TT_NEW_N(s->arena, double, n), *g = TT_NEW_N(s->arena, double, n);
  for (int64_t i = 0; i < n; i++) {
    count[i] = (double)(i % 97);
    period[i] = (double)(i % 5 ? 1 + 5 * (i % 7) : i % 2);
    g[i] = i % 31 ? (double)(float)sweep_random(s, -1, 1) : i % 3 ? INFINITY : NAN;
  }
  sweep_in(s, t, -1, 1);
  sweep_in(s, t, -0.1, 0.1);
  sweep_in(s, t, 0, 0.01);
  sweep_in(s, t, -3, 3);
  sweep_data(s, t, count);
  sweep_data(s, t, period);
  sweep_data(s, t, g);
  for (int i = 0; i < 4; i++) sweep_in(s, tt_type_scalar(TT_F32), i == 1 ? 1e-3 : 0.1, i == 1 ? 1e-2 : 1);
  sweep_op(s, TT_OP_ADAMW_RAMP, 4, a, 3e-6);
}

/* Every mark with every direction of change; rates well off the threshold on either side. */
static void freeze(sweep *s, int n) {
  tt_attr a[2] = {tt_attr_float(TT_A_THRESHOLD, 0.02), tt_attr_float(TT_A_MOMENTUM, 0.01)};
  tt_type t = sweep_f32(1, n);
  sweep_begin(s);
  double *last = TT_NEW_N(s->arena, double, n), *mark = TT_NEW_N(s->arena, double, n), *q = TT_NEW_N(s->arena, double, n),
         *rate = TT_NEW_N(s->arena, double, n);
  for (int i = 0; i < n; i++) {
    mark[i] = i % 5;
    q[i] = i % 7;
    last[i] = q[i] + (i / 5 % 3 - 1) * 0.5;
    rate[i] = i % 11 ? 0.0005 * (i % 11) : 0.0201;
    rate[i] = (double)(float)rate[i];
  }
  sweep_in(s, t, -1, 1);
  sweep_data(s, t, last);
  sweep_in(s, t, -1, 1);
  sweep_data(s, t, rate);
  sweep_data(s, t, mark);
  sweep_data(s, t, q);
  sweep_op(s, TT_OP_FREEZE, 2, a, 1e-6);
}

void sweep_optimizer(sweep *s) {
  const tt_type shapes[] = {sweep_f32(2, 96, 33), sweep_f32(1, 7), sweep_f32(0), sweep_f32(2, 400, 100), sweep_f32(1, 16384)};
  adamw(s, sweep_f32(2, 70, 33), 0.05);
  adamw(s, sweep_f32(1, 5), 0);
  adamw(s, sweep_f32(2, 192, 576), 0.05);
  adamw_ema(s, sweep_f32(2, 70, 33));
  adamw_ramp(s, sweep_f32(2, 70, 33));
  adamw_ramp(s, sweep_f32(1, 3));
  adamw_ema(s, sweep_f32(2, 192, 576));
  freeze(s, 7);
  freeze(s, 4003);
  sweep_begin(s);
  for (int i = 0; i < 5; i++) sweep_in(s, shapes[i], -1, 1);
  sweep_op(s, TT_OP_SUMSQ, 0, NULL, 1e-5);
  for (int i = 0; i < 3; i++) {
    tt_attr max_norm = tt_attr_float(TT_A_MAX_NORM, i == 0 ? 0 : i == 1 ? 1 : 1e6);
    sweep_begin(s);
    sweep_in(s, sweep_f32(1, 37), 0, 3);
    sweep_op(s, TT_OP_CLIP_COEF, 1, &max_norm, 1e-5);
  }
}
