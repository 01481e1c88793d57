/* Elementwise ops: shapes with odd tails, ranks 0 to 4, every way of broadcasting. */
#include "tests/ops/sweep.h"

static void unary(sweep *s, tt_op op, double lo, double hi, int n_attrs, const tt_attr *attrs) {
  const tt_type shapes[] = {sweep_f32(0), sweep_f32(1, 5), sweep_f32(2, 3, 33), sweep_f32(3, 5, 7, 64), sweep_f32(1, 40000)};
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    sweep_begin(s);
    sweep_in(s, shapes[i], lo, hi);
    sweep_op(s, op, n_attrs, attrs, 2e-6);
  }
}

static void binary(sweep *s, tt_op op, double lo, double hi, int n_attrs, const tt_attr *attrs) {
  const tt_type pairs[][2] = {
      {sweep_f32(2, 3, 33), sweep_f32(2, 3, 33)},   {sweep_f32(3, 4, 5, 37), sweep_f32(0)},
      {sweep_f32(0), sweep_f32(1, 70)},             {sweep_f32(3, 4, 5, 37), sweep_f32(1, 37)},
      {sweep_f32(3, 1, 5, 37), sweep_f32(3, 4, 5, 37)}, {sweep_f32(2, 9, 1), sweep_f32(2, 9, 48)},
      {sweep_f32(2, 9, 1), sweep_f32(2, 1, 17)},    {sweep_f32(4, 2, 3, 1, 5), sweep_f32(4, 2, 1, 4, 5)},
      {sweep_f32(1, 30011), sweep_f32(1, 1)},       {sweep_f32(2, 700, 96), sweep_f32(1, 96)},
  };
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    sweep_begin(s);
    sweep_in(s, pairs[i][0], -2, 2);
    sweep_in(s, pairs[i][1], lo, hi);
    sweep_op(s, op, n_attrs, attrs, 2e-6);
  }
}

void sweep_elementwise(sweep *s) {
  static const tt_op plain[] = {TT_OP_NEG, TT_OP_EXP,  TT_OP_ERF,   TT_OP_TANH,      TT_OP_SIGMOID,
                                TT_OP_ABS, TT_OP_RELU, TT_OP_FLOOR, TT_OP_RECIPROCAL};
  static const tt_op two[] = {TT_OP_ADD, TT_OP_SUB, TT_OP_MUL, TT_OP_MIN, TT_OP_MAX};
  for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) unary(s, plain[i], -9, 9, 0, NULL);
  unary(s, TT_OP_LOG, 1e-6, 20, 0, NULL);
  unary(s, TT_OP_SQRT, 0, 20, 0, NULL);
  for (size_t i = 0; i < sizeof two / sizeof two[0]; i++) binary(s, two[i], -3, 3, 0, NULL);
  binary(s, TT_OP_DIV, 0.1, 4, 0, NULL);
  for (int form = 0; form < 2; form++) {
    tt_attr a = tt_attr_int(TT_A_TANH, form);
    unary(s, TT_OP_GELU, -6, 6, 1, &a);
    const tt_type shapes[] = {sweep_f32(2, 3, 33), sweep_f32(1, 20003)};
    for (int i = 0; i < 2; i++) {
      sweep_begin(s);
      sweep_in(s, shapes[i], -2, 2);
      sweep_in(s, shapes[i], -6, 6);
      sweep_op(s, TT_OP_GELU_GRAD, 1, &a, 3e-6);
    }
  }
}
