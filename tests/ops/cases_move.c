/* Movement: views with steps, tails, moved last dimensions, int32 elements. */
#include "tests/ops/sweep.h"

static void one(sweep *s, tt_op op, tt_type in, int n_attrs, const tt_attr *attrs) {
  sweep_in(s, in, -8, 8);
  sweep_op(s, op, n_attrs, attrs, 0);
}

static void transposes(sweep *s) {
  sweep_begin(s);
  tt_attr p = sweep_ints(s, TT_A_PERM, 2, 1, 0);
  one(s, TT_OP_TRANSPOSE, sweep_f32(2, 37, 50), 1, &p);
  sweep_begin(s);
  p = sweep_ints(s, TT_A_PERM, 4, 0, 2, 1, 3);
  one(s, TT_OP_TRANSPOSE, sweep_f32(4, 2, 5, 3, 33), 1, &p);
  sweep_begin(s);
  p = sweep_ints(s, TT_A_PERM, 6, 0, 2, 4, 1, 3, 5);
  one(s, TT_OP_TRANSPOSE, sweep_f32(6, 2, 3, 7, 4, 7, 4), 1, &p);
  sweep_begin(s);
  p = sweep_ints(s, TT_A_PERM, 6, 0, 2, 4, 1, 3, 5);
  one(s, TT_OP_TRANSPOSE, sweep_f32(6, 2, 3, 14, 16, 5, 16), 1, &p); /* several tasks of whole runs */
  sweep_begin(s);
  p = sweep_ints(s, TT_A_PERM, 3, 2, 0, 1);
  one(s, TT_OP_TRANSPOSE, tt_type_make(TT_I32, 3, (int64_t[]){5, 6, 70}), 1, &p);
  sweep_begin(s);
  p = sweep_ints(s, TT_A_PERM, 3, 0, 2, 1);
  one(s, TT_OP_TRANSPOSE, sweep_f32(3, 8, 96, 49), 1, &p);
}

static void slices(sweep *s) {
  sweep_begin(s);
  tt_attr a[3] = {sweep_ints(s, TT_A_STARTS, 3, 0, 0, 0), sweep_ints(s, TT_A_ENDS, 3, 6, 1, 40),
                  sweep_ints(s, TT_A_STEPS, 3, 1, 1, 1)};
  one(s, TT_OP_SLICE, sweep_f32(3, 6, 5, 40), 3, a);
  sweep_begin(s);
  tt_attr b[3] = {sweep_ints(s, TT_A_STARTS, 2, 1, 3), sweep_ints(s, TT_A_ENDS, 2, 9, 77),
                  sweep_ints(s, TT_A_STEPS, 2, 2, 3)};
  one(s, TT_OP_SLICE, sweep_f32(2, 10, 80), 3, b);
  sweep_begin(s);
  tt_attr g[3] = {sweep_ints(s, TT_A_STARTS, 3, 0, 0, 0), sweep_ints(s, TT_A_STEPS, 3, 1, 1, 1),
                  sweep_ints(s, TT_A_SHAPE, 3, 6, 5, 40)};
  one(s, TT_OP_SLICE_GRAD, sweep_f32(3, 6, 1, 40), 3, g);
  sweep_begin(s);
  tt_attr h[3] = {sweep_ints(s, TT_A_STARTS, 2, 1, 3), sweep_ints(s, TT_A_STEPS, 2, 2, 3),
                  sweep_ints(s, TT_A_SHAPE, 2, 10, 80)};
  one(s, TT_OP_SLICE_GRAD, sweep_f32(2, 4, 25), 3, h);
}

static void concats(sweep *s) {
  tt_attr axis = tt_attr_int(TT_A_AXIS, 1);
  sweep_begin(s);
  sweep_in(s, sweep_f32(3, 4, 1, 33), -1, 1);
  sweep_in(s, sweep_f32(3, 4, 16, 33), -1, 1);
  sweep_op(s, TT_OP_CONCAT, 1, &axis, 0);
  sweep_begin(s);
  sweep_in(s, sweep_f32(2, 300, 17), -1, 1);
  sweep_in(s, sweep_f32(2, 300, 40), -1, 1);
  sweep_in(s, sweep_f32(2, 300, 1), -1, 1);
  sweep_op(s, TT_OP_CONCAT, 1, &axis, 0);
}

void sweep_move(sweep *s) {
  transposes(s);
  slices(s);
  concats(s);
  sweep_begin(s);
  tt_attr shape = sweep_ints(s, TT_A_SHAPE, 2, 6, 35);
  one(s, TT_OP_RESHAPE, sweep_f32(3, 2, 3, 35), 1, &shape);
  sweep_begin(s);
  shape = sweep_ints(s, TT_A_SHAPE, 3, 6, 5, 35);
  one(s, TT_OP_EXPAND, sweep_f32(2, 1, 35), 1, &shape);
  sweep_begin(s);
  shape = sweep_ints(s, TT_A_SHAPE, 3, 6, 5, 35);
  one(s, TT_OP_EXPAND, sweep_f32(2, 5, 1), 1, &shape);
}
