/* Every rule of the evaluator against numbers worked out by hand. */
#include "eval_case.h"

static tt_arena *arena;

static int setup(void **state) {
  (void)state;
  arena = tt_arena_create();
  return 0;
}

static int teardown(void **state) {
  (void)state;
  tt_arena_destroy(arena);
  return 0;
}

static tt_tensor f32(int rank, const int64_t *dim, const double *values) { return make(arena, TT_F32, rank, dim, values); }

static tt_tensor run1(tt_op op, tt_tensor x, int n_attrs, const tt_attr *attrs) {
  tt_tensor out[TT_MAX_OUT];
  run_op(arena, op, 1, &x, n_attrs, attrs, out);
  return out[0];
}

static tt_tensor run2(tt_op op, tt_tensor x, tt_tensor y, int n_attrs, const tt_attr *attrs) {
  tt_tensor out[TT_MAX_OUT];
  run_op(arena, op, 2, (tt_tensor[]){x, y}, n_attrs, attrs, out);
  return out[0];
}

static void unary(void **state) {
  (void)state;
  tt_tensor x = f32(DIMS(4), VALUES(-1, -0.5, 0.25, 2));
  static const struct {
    tt_op op;
    double want[4];
  } cases[] = {
      {TT_OP_NEG, {1, 0.5, -0.25, -2}},
      {TT_OP_EXP, {0.36787944117144233, 0.60653065971263342, 1.2840254166877414, 7.3890560989306495}},
      {TT_OP_RECIPROCAL, {-1, -2, 4, 0.5}},
      {TT_OP_ERF, {-0.84270079294971489, -0.52049987781304652, 0.27632639016823696, 0.99532226501895271}},
      {TT_OP_TANH, {-0.76159415595576485, -0.46211715726000979, 0.24491866240370913, 0.9640275800758169}},
      {TT_OP_SIGMOID, {0.2689414213699951, 0.37754066879814541, 0.56217650088579807, 0.88079707797788243}},
      {TT_OP_ABS, {1, 0.5, 0.25, 2}},
      {TT_OP_RELU, {0, 0, 0.25, 2}},
      {TT_OP_FLOOR, {-1, -1, 0, 2}},
      {TT_OP_GELU, {-0.15865525393145707, -0.15426876936299344, 0.14967658142073092, 1.9544997361036416}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tt_tensor y = run1(cases[i].op, x, 0, NULL);
    expect_values(&y, DIMS(4), cases[i].want, 1e-14);
  }
  tt_tensor y = run1(TT_OP_GELU, x, 1, (tt_attr[]){tt_attr_int(TT_A_TANH, 1)});
  expect_values(&y, DIMS(4), VALUES(-0.15880800939172324, -0.15428599017485606, 0.149675350701685, 1.954597694087775),
                1e-13);
  y = run1(TT_OP_LOG, f32(DIMS(3), VALUES(1, 0, -1)), 0, NULL);
  expect_values(&y, DIMS(3), VALUES(0, -INFINITY, NAN), 0);
  y = run1(TT_OP_SQRT, f32(SCALAR, VALUES(9)), 0, NULL);
  expect_values(&y, SCALAR, VALUES(3), 0);
  y = run1(TT_OP_RELU, f32(DIMS(1), VALUES(NAN)), 0, NULL);
  expect_values(&y, DIMS(1), VALUES(NAN), 0);
}

static void logic_and_cast(void **state) {
  (void)state;
  tt_tensor y = run1(TT_OP_ISNAN, f32(DIMS(2), VALUES(NAN, 1)), 0, NULL);
  expect_values(&y, DIMS(2), VALUES(1, 0), 0);
  assert_int_equal(y.type.dtype, TT_BOOL);
  y = run1(TT_OP_NOT, y, 0, NULL);
  expect_values(&y, DIMS(2), VALUES(0, 1), 0);
  tt_attr to = {.id = TT_A_TO, .as.i = TT_I64};
  y = run1(TT_OP_CAST, f32(DIMS(3), VALUES(2.9, -2.9, 0)), 1, &to);
  expect_values(&y, DIMS(3), VALUES(2, -2, 0), 0);
  to.as.i = TT_BOOL;
  y = run1(TT_OP_CAST, y, 1, &to);
  expect_values(&y, DIMS(3), VALUES(1, 1, 0), 0);
  to.as.i = TT_F32;
  y = run1(TT_OP_CAST, y, 1, &to);
  expect_values(&y, DIMS(3), VALUES(1, 1, 0), 0);
  tt_tensor a = make(arena, TT_BOOL, DIMS(4), VALUES(0, 0, 1, 1)), b = make(arena, TT_BOOL, DIMS(4), VALUES(0, 1, 0, 1));
  y = run2(TT_OP_AND, a, b, 0, NULL);
  expect_values(&y, DIMS(4), VALUES(0, 0, 0, 1), 0);
  y = run2(TT_OP_OR, a, b, 0, NULL);
  expect_values(&y, DIMS(4), VALUES(0, 1, 1, 1), 0);
}

static void binary_broadcasts(void **state) {
  (void)state;
  tt_tensor a = f32(DIMS(2, 3), VALUES(1, 2, 3, 4, 5, 6)), row = f32(DIMS(3), VALUES(10, 20, 30));
  tt_tensor column = f32(DIMS(2, 1), VALUES(2, -1)), one = f32(SCALAR, VALUES(3));
  tt_tensor y = run2(TT_OP_ADD, a, row, 0, NULL);
  expect_values(&y, DIMS(2, 3), VALUES(11, 22, 33, 14, 25, 36), 0);
  y = run2(TT_OP_MUL, column, a, 0, NULL);
  expect_values(&y, DIMS(2, 3), VALUES(2, 4, 6, -4, -5, -6), 0);
  y = run2(TT_OP_SUB, one, a, 0, NULL);
  expect_values(&y, DIMS(2, 3), VALUES(2, 1, 0, -1, -2, -3), 0);
  y = run2(TT_OP_DIV, row, column, 0, NULL);
  expect_values(&y, DIMS(2, 3), VALUES(5, 10, 15, -10, -20, -30), 0);
  y = run2(TT_OP_POW, row, f32(DIMS(1), VALUES(2)), 0, NULL);
  expect_values(&y, DIMS(3), VALUES(100, 400, 900), 0);
  y = run2(TT_OP_MIN, a, one, 0, NULL);
  expect_values(&y, DIMS(2, 3), VALUES(1, 2, 3, 3, 3, 3), 0);
  y = run2(TT_OP_MAX, f32(DIMS(3), VALUES(1, NAN, 7)), f32(DIMS(3), VALUES(2, 2, NAN)), 0, NULL);
  expect_values(&y, DIMS(3), VALUES(2, NAN, NAN), 0);
  y = run2(TT_OP_LESS, a, one, 0, NULL);
  expect_values(&y, DIMS(2, 3), VALUES(1, 1, 0, 0, 0, 0), 0);
  y = run2(TT_OP_GREATER, a, one, 0, NULL);
  expect_values(&y, DIMS(2, 3), VALUES(0, 0, 0, 1, 1, 1), 0);
  y = run2(TT_OP_EQUAL, a, one, 0, NULL);
  expect_values(&y, DIMS(2, 3), VALUES(0, 0, 1, 0, 0, 0), 0);
  tt_tensor out[1], pick[3] = {make(arena, TT_BOOL, DIMS(2, 1), VALUES(1, 0)), row, one};
  run_op(arena, TT_OP_WHERE, 3, pick, 0, NULL, out);
  expect_values(&out[0], DIMS(2, 3), VALUES(10, 20, 30, 3, 3, 3), 0);
}

static void integers_divide_toward_zero(void **state) {
  (void)state;
  tt_tensor a = make(arena, TT_I64, DIMS(5), VALUES(7, -7, 7, -7, 9007199254740991)),
            b = make(arena, TT_I64, DIMS(5), VALUES(2, 2, -2, -2, 9007199254740990));
  tt_tensor y = run2(TT_OP_DIV, a, b, 0, NULL);
  expect_values(&y, DIMS(5), VALUES(3, -3, -3, 3, 1), 0);
  y = run2(TT_OP_MOD, a, b, 0, NULL);
  expect_values(&y, DIMS(5), VALUES(1, 1, -1, -1, 1), 0);
  y = run2(TT_OP_DIV, a, make(arena, TT_I64, SCALAR, VALUES(0)), 0, NULL);
  expect_values(&y, DIMS(5), VALUES(0, 0, 0, 0, 0), 0);
  y = run2(TT_OP_MOD, f32(DIMS(2), VALUES(-7, 7)), f32(DIMS(2), VALUES(2, -2)), 0, NULL);
  expect_values(&y, DIMS(2), VALUES(-1, 1), 0);
  y = run1(TT_OP_REDUCE_MEAN, make(arena, TT_I64, DIMS(2), VALUES(3, 4)), 1, (tt_attr[]){INTS(TT_A_AXES, 0)});
  expect_values(&y, SCALAR, VALUES(3), 0);
}

static void movement(void **state) {
  (void)state;
  tt_tensor x = f32(DIMS(2, 3), VALUES(1, 2, 3, 4, 5, 6));
  tt_tensor y = run1(TT_OP_SHAPE_OF, x, 0, NULL);
  expect_values(&y, DIMS(2), VALUES(2, 3), 0);
  y = run1(TT_OP_RESHAPE, x, 1, (tt_attr[]){INTS(TT_A_SHAPE, 3, 1, 2)});
  expect_values(&y, DIMS(3, 1, 2), VALUES(1, 2, 3, 4, 5, 6), 0);
  y = run1(TT_OP_TRANSPOSE, x, 1, (tt_attr[]){INTS(TT_A_PERM, 1, 0)});
  expect_values(&y, DIMS(3, 2), VALUES(1, 4, 2, 5, 3, 6), 0);
  tt_tensor cube = f32(DIMS(2, 1, 3), VALUES(1, 2, 3, 4, 5, 6));
  y = run1(TT_OP_TRANSPOSE, cube, 1, (tt_attr[]){INTS(TT_A_PERM, 2, 0, 1)}); /* no involution: catches an inverted perm */
  expect_values(&y, DIMS(3, 2, 1), VALUES(1, 4, 2, 5, 3, 6), 0);
  y = run1(TT_OP_SLICE, x, 3, (tt_attr[]){INTS(TT_A_STARTS, 1, 0), INTS(TT_A_ENDS, 2, 3), INTS(TT_A_STEPS, 1, 2)});
  expect_values(&y, DIMS(1, 2), VALUES(4, 6), 0);
  y = run1(TT_OP_SLICE_GRAD, y, 3, (tt_attr[]){INTS(TT_A_STARTS, 1, 0), INTS(TT_A_STEPS, 1, 2), INTS(TT_A_SHAPE, 2, 3)});
  expect_values(&y, DIMS(2, 3), VALUES(0, 0, 0, 4, 0, 6), 0);
  y = run2(TT_OP_CONCAT, x, f32(DIMS(2, 1), VALUES(7, 8)), 1, (tt_attr[]){tt_attr_int(TT_A_AXIS, 1)});
  expect_values(&y, DIMS(2, 4), VALUES(1, 2, 3, 7, 4, 5, 6, 8), 0);
  y = run1(TT_OP_EXPAND, f32(DIMS(2, 1), VALUES(1, 2)), 1, (tt_attr[]){INTS(TT_A_SHAPE, 2, 2, 3)});
  expect_values(&y, DIMS(2, 2, 3), VALUES(1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2), 0);
  tt_tensor index = make(arena, TT_I64, DIMS(2), VALUES(2, -3));
  y = run2(TT_OP_GATHER, x, index, 1, (tt_attr[]){tt_attr_int(TT_A_AXIS, 1)});
  expect_values(&y, DIMS(2, 2), VALUES(3, 1, 6, 4), 0);
  y = run2(TT_OP_GATHER, x, make(arena, TT_I64, SCALAR, VALUES(1)), 1, (tt_attr[]){tt_attr_int(TT_A_AXIS, 0)});
  expect_values(&y, DIMS(3), VALUES(4, 5, 6), 0);
}

static void reductions(void **state) {
  (void)state;
  tt_tensor x = f32(DIMS(2, 2, 2), VALUES(1, 2, 3, 4, 5, 6, 7, -8));
  tt_tensor y = run1(TT_OP_REDUCE_SUM, x, 1, (tt_attr[]){INTS(TT_A_AXES, 0, 2)});
  expect_values(&y, DIMS(2), VALUES(14, 6), 0);
  y = run1(TT_OP_REDUCE_MEAN, x, 2, (tt_attr[]){INTS(TT_A_AXES, 1), tt_attr_int(TT_A_KEEPDIMS, 1)});
  expect_values(&y, DIMS(2, 1, 2), VALUES(2, 3, 6, -1), 0);
  y = run1(TT_OP_REDUCE_MAX, x, 1, (tt_attr[]){INTS(TT_A_AXES, 2)});
  expect_values(&y, DIMS(2, 2), VALUES(2, 4, 6, 7), 0);
  y = run1(TT_OP_REDUCE_MAX, f32(DIMS(2, 2), VALUES(NAN, 1, 1, NAN)), 1, (tt_attr[]){INTS(TT_A_AXES, 1)});
  expect_values(&y, DIMS(2), VALUES(NAN, NAN), 0);
}

static void matrix_products(void **state) {
  (void)state;
  tt_tensor a = f32(DIMS(2, 3), VALUES(1, 2, 3, 4, 5, 6)), b = f32(DIMS(3, 2), VALUES(1, 0, 2, 1, 0, 3));
  static const double product[] = {5, 11, 14, 23};
  tt_tensor y = run2(TT_OP_MATMUL, a, b, 0, NULL);
  expect_values(&y, DIMS(2, 2), product, 0);
  tt_tensor at = f32(DIMS(3, 2), VALUES(1, 4, 2, 5, 3, 6)), bt = f32(DIMS(2, 3), VALUES(1, 2, 0, 0, 1, 3));
  y = run2(TT_OP_MATMUL, at, bt, 2, (tt_attr[]){tt_attr_int(TT_A_TRANS_A, 1), tt_attr_int(TT_A_TRANS_B, 1)});
  expect_values(&y, DIMS(2, 2), product, 0);
  y = run2(TT_OP_MATMUL, f32(DIMS(2, 1, 1, 2), VALUES(1, 2, 3, 4)), f32(DIMS(2, 2, 1), VALUES(1, 1, 1, -1)), 0, NULL);
  expect_values(&y, DIMS(2, 2, 1, 1), VALUES(3, -1, 7, -1), 0);
  tt_tensor in[3] = {f32(DIMS(1, 2, 3), VALUES(1, 2, 3, 4, 5, 6)), bt, f32(DIMS(2), VALUES(100, 200))};
  run_op(arena, TT_OP_LINEAR, 3, in, 0, NULL, &y);
  expect_values(&y, DIMS(1, 2, 2), VALUES(105, 211, 114, 223), 0);
  run_op(arena, TT_OP_LINEAR, 2, in, 0, NULL, &y);
  expect_values(&y, DIMS(1, 2, 2), product, 0);
}

static void convolution(void **state) {
  (void)state;
  /* A 3x3 image, pads 1 left and top only, stride 2, a 2x2 kernel with its corners 1 and 10. */
  tt_tensor in[3] = {f32(DIMS(1, 1, 3, 3), VALUES(1, 2, 3, 4, 5, 6, 7, 8, 9)), f32(DIMS(1, 1, 2, 2), VALUES(1, 0, 0, 10)),
                     f32(DIMS(1), VALUES(0.5))};
  tt_attr attrs[4] = {INTS(TT_A_STRIDES, 2, 2), INTS(TT_A_PADS, 1, 1, 0, 0), INTS(TT_A_DILATIONS, 1, 1),
                      tt_attr_int(TT_A_GROUP, 1)};
  tt_tensor y;
  run_op(arena, TT_OP_CONV, 3, in, 4, attrs, &y);
  expect_values(&y, DIMS(1, 1, 2, 2), VALUES(10.5, 30.5, 70.5, 95.5), 0);
  /* Two groups of one channel, dilation 2: each filter sees its own channel's corners. */
  tt_tensor grouped[2] = {f32(DIMS(1, 2, 3, 3), VALUES(1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1)),
                          f32(DIMS(2, 1, 2, 2), VALUES(1, 1, 1, 1, 1, 0, 0, -1))};
  tt_attr more[4] = {INTS(TT_A_STRIDES, 1, 1), INTS(TT_A_PADS, 0, 0, 0, 0), INTS(TT_A_DILATIONS, 2, 2),
                     tt_attr_int(TT_A_GROUP, 2)};
  run_op(arena, TT_OP_CONV, 2, grouped, 4, more, &y);
  expect_values(&y, DIMS(1, 2, 1, 1), VALUES(20, 8), 0);
}

static void softmax_and_layernorm(void **state) {
  (void)state;
  tt_tensor y = run1(TT_OP_SOFTMAX, f32(DIMS(2, 2), VALUES(1000, 1000, -1000, -1000 + log(3))), 0, NULL);
  expect_values(&y, DIMS(2, 2), VALUES(0.5, 0.5, 0.25, 0.75), 1e-13);
  tt_tensor out[3],
      in[3] = {f32(DIMS(1, 2, 2), VALUES(1, 3, -2, -2)), f32(DIMS(2), VALUES(2, 1)), f32(DIMS(2), VALUES(0, 10))};
  run_op(arena, TT_OP_LAYERNORM, 3, in, 1, (tt_attr[]){tt_attr_float(TT_A_EPSILON, 0.5625)}, out);
  expect_values(&out[0], DIMS(1, 2, 2), VALUES(-1.6, 10.8, 0, 10), 1e-15);
  expect_values(&out[1], DIMS(2), VALUES(2, -2), 0);
  expect_values(&out[2], DIMS(2), VALUES(0.8, 1 / 0.75), 1e-15);
}

static void attention_of_two_tokens(void **state) {
  (void)state;
  /* Two heads of width 1. Head 0: q = 1, 0; k = log 2, 0. Head 1: q = 0, so it averages. */
  double l = log(2.0);
  tt_tensor q = f32(DIMS(1, 2, 2), VALUES(1, 0, 0, 0)), k = f32(DIMS(1, 2, 2), VALUES(l, 5, 0, 7)),
            v = f32(DIMS(1, 2, 2), VALUES(3, 1, 6, 2)), out[2];
  tt_attr attrs[2] = {tt_attr_int(TT_A_HEADS, 2), tt_attr_float(TT_A_SCALE, 1)};
  run_op(arena, TT_OP_ATTENTION, 3, (tt_tensor[]){q, k, v}, 2, attrs, out);
  expect_values(&out[0], DIMS(1, 2, 2), VALUES(4, 1.5, 4.5, 1.5), 1e-14);
  expect_values(&out[1], DIMS(1, 2, 2), VALUES(log(3.0), l, l, l), 1e-14);
  tt_tensor packed = f32(DIMS(1, 2, 6), VALUES(1, 0, l, 5, 3, 1, 0, 0, 0, 7, 6, 2));
  run_op(arena, TT_OP_ATTENTION, 1, &packed, 2, attrs, out);
  expect_values(&out[0], DIMS(1, 2, 2), VALUES(4, 1.5, 4.5, 1.5), 1e-14);
}

static void losses(void **state) {
  (void)state;
  tt_tensor logits = f32(DIMS(2, 2), VALUES(0, log(3.0), 5, 5)), hard = make(arena, TT_I32, DIMS(2), VALUES(1, 0));
  double a = log(4.0) - log(3.0), b = log(2.0);
  tt_tensor y = run2(TT_OP_XENT, logits, hard, 0, NULL);
  expect_values(&y, DIMS(2), VALUES(a, b), 1e-14);
  y = run2(TT_OP_XENT, logits, hard, 1, (tt_attr[]){tt_attr_float(TT_A_SMOOTHING, 0.2)});
  expect_values(&y, DIMS(2), VALUES(0.9 * a + 0.1 * log(4.0), b), 1e-14);
  tt_tensor soft = f32(DIMS(2, 2), VALUES(0.25, 0.75, 0, 1));
  y = run2(TT_OP_XENT, logits, soft, 0, NULL);
  expect_values(&y, DIMS(2), VALUES(0.25 * log(4.0) + 0.75 * a, b), 1e-14);
  y = run2(TT_OP_CORRECT, logits, hard, 0, NULL);
  expect_values(&y, DIMS(2), VALUES(1, 1), 0); /* the tie goes to the lowest index */
  y = run2(TT_OP_CORRECT, logits, soft, 0, NULL);
  expect_values(&y, DIMS(2), VALUES(1, 0), 0);
}

static void optimizer(void **state) {
  (void)state;
  tt_tensor out[3], y = run2(TT_OP_SUMSQ, f32(DIMS(2), VALUES(1, -2)), f32(DIMS(1, 1), VALUES(2)), 0, NULL);
  expect_values(&y, DIMS(2), VALUES(5, 4), 0);
  run_op(arena, TT_OP_CLIP_COEF, 1, &y, 1, (tt_attr[]){tt_attr_float(TT_A_MAX_NORM, 1.5)}, out);
  expect_values(&out[0], SCALAR, VALUES(1.5 / (3 + 1e-6)), 1e-15);
  expect_values(&out[1], SCALAR, VALUES(3), 0);
  run_op(arena, TT_OP_CLIP_COEF, 1, &y, 1, (tt_attr[]){tt_attr_float(TT_A_MAX_NORM, 4)}, out);
  expect_values(&out[0], SCALAR, VALUES(1), 0);
  run_op(arena, TT_OP_CLIP_COEF, 1, &y, 0, NULL, out);
  expect_values(&out[0], SCALAR, VALUES(1), 0);
  /* First step: m / bc1 = g', v / bc2 = g'^2, so the update is lr * (g' / (|g'| + eps) + wd * w). */
  double m0[1] = {0}, w0[1] = {10};
  tt_tensor in[8] = {f32(DIMS(1), w0),         f32(DIMS(1), m0),         f32(DIMS(1), m0),
                     f32(DIMS(1), VALUES(-8)), f32(SCALAR, VALUES(0.5)), f32(SCALAR, VALUES(0.25)),
                     f32(SCALAR, VALUES(0.5)), f32(SCALAR, VALUES(0.25))};
  tt_attr attrs[4] = {tt_attr_float(TT_A_BETA1, 0.5), tt_attr_float(TT_A_BETA2, 0.75), tt_attr_float(TT_A_EPSILON, 1),
                      tt_attr_float(TT_A_WEIGHT_DECAY, 0.1)};
  run_op(arena, TT_OP_ADAMW, 8, in, 4, attrs, out);
  expect_values(&out[0], DIMS(1), VALUES(10 - 0.25 * (1.0 - 4.0 / 5)), 1e-14);
  expect_values(&out[1], DIMS(1), VALUES(-2), 0);
  expect_values(&out[2], DIMS(1), VALUES(4), 0);
}

static void mx_ops(void **state) {
  (void)state;
  tt_qspec q = {true, TT_E2M1, TT_SCALE_CEIL, TT_NEAREST, TT_DIRECT};
  tt_attr attrs[3] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TENSOR, 3), tt_attr_int(TT_A_TRANSPOSED, 1)};
  tt_tensor x = f32(DIMS(1, 2, 2), VALUES(6, 2.4, -1.1, 0.7)), rows = run1(TT_OP_MX_QUANTIZE, x, 1, attrs);
  tt_tensor y = run1(TT_OP_MX_DEQUANTIZE, rows, 0, NULL);
  expect_values(&y, DIMS(2, 2), VALUES(6, 2, -1, 0.75), 0);
  tt_tensor columns = run1(TT_OP_MX_QUANTIZE, x, 3, attrs);
  y = run1(TT_OP_MX_DEQUANTIZE, columns, 0, NULL);
  expect_values(&y, DIMS(2, 2), VALUES(6, -1, 2, 0.75), 0);
  tt_tensor again = run1(TT_OP_MX_REQUANTIZE, rows, 2, attrs);
  y = run1(TT_OP_MX_DEQUANTIZE, again, 0, NULL);
  expect_values(&y, DIMS(2, 2), VALUES(6, -1, 2, 0.75), 0);
  y = run1(TT_OP_MX_COLSUM, rows, 0, NULL);
  expect_values(&y, DIMS(2), VALUES(5, 2.75), 0);
  tt_tensor gemm[3] = {rows, again, f32(DIMS(2), VALUES(0.5, 0))};
  run_op(arena, TT_OP_MX_GEMM, 3, gemm, 0, NULL, &y);
  expect_values(&y, DIMS(2, 2), VALUES(34.5, 13.5, -6.25, -1.4375), 0);
  gemm[1] = f32(DIMS(1, 2), VALUES(1, 0.1));
  run_op(arena, TT_OP_MX_GEMM, 2, gemm, 0, NULL, &y);
  expect_values(&y, DIMS(2, 1), VALUES(6.2, -0.925), 1e-15);
  attrs[0].as.q.rounding = TT_EMA; /* 2.4 -> 3 and -1.1 -> -1.5 by their averages */
  y = run2(TT_OP_MX_QUANTIZE, x, f32(DIMS(1, 2, 2), VALUES(6, 2.9, -1.4, 0.9)), 1, attrs);
  y = run1(TT_OP_MX_DEQUANTIZE, y, 0, NULL);
  expect_values(&y, DIMS(2, 2), VALUES(6, 3, -1.5, 0.75), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(unary),
      cmocka_unit_test(logic_and_cast),
      cmocka_unit_test(binary_broadcasts),
      cmocka_unit_test(integers_divide_toward_zero),
      cmocka_unit_test(movement),
      cmocka_unit_test(reductions),
      cmocka_unit_test(matrix_products),
      cmocka_unit_test(convolution),
      cmocka_unit_test(softmax_and_layernorm),
      cmocka_unit_test(attention_of_two_tokens),
      cmocka_unit_test(losses),
      cmocka_unit_test(optimizer),
      cmocka_unit_test(mx_ops),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
