/* Reductions: trailing, leading, middle and scattered axes, to a scalar, long ones that are cut into chunks. */
#include "tests/ops/sweep.h"

static void reduce(sweep *s, tt_type in, tt_attr (*axes)(sweep *), int keep) {
  static const tt_op ops[] = {TT_OP_REDUCE_SUM, TT_OP_REDUCE_MEAN, TT_OP_REDUCE_MAX};
  for (int i = 0; i < 3; i++) {
    sweep_begin(s);
    sweep_in(s, in, -2, 2);
    tt_attr a[2] = {axes(s), tt_attr_int(TT_A_KEEPDIMS, keep)};
    sweep_op(s, ops[i], 2, a, 1e-5);
  }
}

static tt_attr axes_0(sweep *s) { return sweep_ints(s, TT_A_AXES, 1, 0); }
static tt_attr axes_1(sweep *s) { return sweep_ints(s, TT_A_AXES, 1, 1); }
static tt_attr axes_01(sweep *s) { return sweep_ints(s, TT_A_AXES, 2, 0, 1); }
static tt_attr axes_02(sweep *s) { return sweep_ints(s, TT_A_AXES, 2, 0, 2); }
static tt_attr axes_13(sweep *s) { return sweep_ints(s, TT_A_AXES, 2, 1, 3); }

void sweep_reduce(sweep *s) {
  reduce(s, sweep_f32(1, 7), axes_0, 0);
  reduce(s, sweep_f32(1, 100003), axes_0, 1);
  reduce(s, sweep_f32(2, 70, 33), axes_1, 0);
  reduce(s, sweep_f32(2, 3, 20000), axes_1, 1);
  reduce(s, sweep_f32(2, 1000, 197), axes_0, 0);
  reduce(s, sweep_f32(3, 16, 49, 100), axes_01, 0);
  reduce(s, sweep_f32(3, 9, 50, 192), axes_0, 1);
  reduce(s, sweep_f32(3, 5, 7, 40), axes_1, 0);
  reduce(s, sweep_f32(3, 5, 7, 40), axes_02, 1);
  reduce(s, sweep_f32(4, 3, 4, 5, 6), axes_13, 0);
  reduce(s, sweep_f32(2, 3, 4), axes_01, 0);
}
