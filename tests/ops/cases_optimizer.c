/* Gradient norms, clipping, AdamW. */
#include "tests/ops/sweep.h"

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

void sweep_optimizer(sweep *s) {
  const tt_type shapes[] = {sweep_f32(2, 96, 33), sweep_f32(1, 7), sweep_f32(0), sweep_f32(2, 400, 100), sweep_f32(1, 16384)};
  adamw(s, sweep_f32(2, 70, 33), 0.05);
  adamw(s, sweep_f32(1, 5), 0);
  adamw(s, sweep_f32(2, 192, 576), 0.05);
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
