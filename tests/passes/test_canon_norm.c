/* canon_layernorm, canon_gelu and canon_softmax_safe. */
#include "tests/passes/pass_test.h"

static tt_value mean(bench *t, tt_value x) {
  const int64_t last = tt_typ(t->g, x)->rank - 1;
  const tt_attr a[] = {tt_attr_ints(t->g, TT_A_AXES, 1, &last), tt_attr_int(TT_A_KEEPDIMS, 1)};
  return tt_build1(at_end(t), TT_OP_REDUCE_MEAN, x, 2, a);
}

typedef struct spelling {
  bool pow, reciprocal, gamma, beta;
} spelling;

static tt_value norm(bench *t, tt_value x, spelling s) {
  const tt_value centred = op2(t, TT_OP_SUB, x, mean(t, x));
  const tt_value square = s.pow ? op2(t, TT_OP_POW, centred, number(t, 2)) : op2(t, TT_OP_MUL, centred, centred);
  const tt_value deviation = op1(t, TT_OP_SQRT, op2(t, TT_OP_ADD, mean(t, square), number(t, 1e-5)));
  tt_value y = s.reciprocal ? op2(t, TT_OP_MUL, op1(t, TT_OP_RECIPROCAL, deviation), centred)
                            : op2(t, TT_OP_DIV, centred, deviation);
  const int64_t width = tt_type_last(tt_typ(t->g, x));
  if (s.gamma) y = op2(t, TT_OP_MUL, param(t, "gamma", 1, &width), y);
  if (s.beta) y = op2(t, TT_OP_ADD, y, param(t, "beta", 1, &width));
  return y;
}

static void layernorm(void **state) {
  (void)state;
  for (int i = 0; i < 16; i++) {
    bench t = bench_open();
    const spelling s = {.pow = i & 1, .reciprocal = (i & 2) != 0, .gamma = (i & 4) != 0, .beta = (i & 8) != 0};
    result(&t, "y", op1(&t, TT_OP_NEG, norm(&t, input(&t, "x", DIMS(2, 3, 8)), s)));
    check_pass(&t, "canon_layernorm", TT_PASS_CHANGED);
    assert_int_equal(count_op(t.g, TT_OP_LAYERNORM), 1);
    assert_int_equal(count_nodes(t.g), 2);
    bench_close(&t);
  }
}

/* Normalised over another dimension; centred by a different tensor's mean. */
static void layernorm_keeps(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 3, 8)), z = input(&t, "z", DIMS(2, 3, 8));
  const tt_value centred = op2(&t, TT_OP_SUB, x, mean(&t, z));
  const tt_value square = op2(&t, TT_OP_MUL, centred, centred);
  const tt_value deviation = op1(&t, TT_OP_SQRT, op2(&t, TT_OP_ADD, mean(&t, square), number(&t, 1e-5)));
  result(&t, "y", op2(&t, TT_OP_DIV, centred, deviation));
  check_pass(&t, "canon_layernorm", TT_PASS_UNCHANGED);
  bench_close(&t);
}

/* 1 + erf(x / sqrt 2), division or multiplication */
static tt_value gate(bench *t, tt_value x, bool divide) {
  const tt_value u = divide ? op2(t, TT_OP_DIV, x, number(t, sqrt(2))) : op2(t, TT_OP_MUL, number(t, sqrt(0.5)), x);
  return op2(t, TT_OP_ADD, op1(t, TT_OP_ERF, u), number(t, 1));
}

static void gelu_erf(void **state) {
  (void)state;
  for (int order = 0; order < 6; order++) {
    bench t = bench_open();
    const tt_value x = op1(&t, TT_OP_TANH, input(&t, "x", DIMS(4, 5)));
    const tt_value f[3] = {x, gate(&t, x, order % 2), number(&t, 0.5)};
    const int a = order % 3, b = (order + 1) % 3, c = (order + 2) % 3;
    result(&t, "y", op2(&t, TT_OP_MUL, f[c], op2(&t, TT_OP_MUL, f[a], f[b])));
    check_pass(&t, "canon_gelu", TT_PASS_CHANGED);
    assert_int_equal(count_op(t.g, TT_OP_GELU), 1);
    assert_int_equal(count_nodes(t.g), 2);
    bench_close(&t);
  }
}

/* sqrt(2/pi) (x + 0.044715 x^3), the cubic in four spellings */
static tt_value cubic(bench *t, tt_value x, int form) {
  const tt_value k = number(t, 0.044715), s = number(t, sqrt(2 / M_PI));
  const tt_value square = form == 1 ? op2(t, TT_OP_POW, x, number(t, 2)) : op2(t, TT_OP_MUL, x, x);
  if (form == 3) {
    const tt_value sum = op2(t, TT_OP_ADD, number(t, 1), op2(t, TT_OP_MUL, k, square));
    return op2(t, TT_OP_MUL, op2(t, TT_OP_MUL, x, s), sum);
  }
  const tt_value cube = form == 0 ? op2(t, TT_OP_POW, x, number(t, 3)) : op2(t, TT_OP_MUL, square, x);
  return op2(t, TT_OP_MUL, s, op2(t, TT_OP_ADD, x, op2(t, TT_OP_MUL, cube, k)));
}

static void gelu_tanh(void **state) {
  (void)state;
  for (int form = 0; form < 4; form++) {
    bench t = bench_open();
    const tt_value x = input(&t, "x", DIMS(4, 5));
    const tt_value g = op2(&t, TT_OP_ADD, number(&t, 1), op1(&t, TT_OP_TANH, cubic(&t, x, form)));
    result(&t, "y", op2(&t, TT_OP_MUL, op2(&t, TT_OP_MUL, x, number(&t, 0.5)), g));
    check_pass(&t, "canon_gelu", TT_PASS_CHANGED);
    assert_int_equal(count_nodes(t.g), 1);
    assert_int_equal(tt_node_int(t.g, t.g->first, TT_A_TANH), 1);
    bench_close(&t);
  }
}

/* A gate of something else, and a factor that is no half. */
static void gelu_keeps(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(4, 5)), z = input(&t, "z", DIMS(4, 5));
  result(&t, "a", op2(&t, TT_OP_MUL, op2(&t, TT_OP_MUL, z, gate(&t, x, true)), number(&t, 0.5)));
  result(&t, "b", op2(&t, TT_OP_MUL, op2(&t, TT_OP_MUL, x, gate(&t, x, true)), number(&t, 0.51)));
  check_pass(&t, "canon_gelu", TT_PASS_UNCHANGED);
  bench_close(&t);
}

static tt_value guarded_softmax(bench *t, tt_value scores) {
  const tt_value s = op1(t, TT_OP_SOFTMAX, scores);
  return tt_build3(at_end(t), TT_OP_WHERE, op1(t, TT_OP_ISNAN, s), number(t, 0), s, 0, NULL);
}

static void softmax_safe(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 3));
  const float open[3] = {0, -INFINITY, 0};
  const tt_value mask = tt_graph_const(t.g, tt_type_make(TT_F32, DIMS(3)), open);
  result(&t, "y", guarded_softmax(&t, x));
  result(&t, "z", guarded_softmax(&t, op2(&t, TT_OP_ADD, x, mask)));
  check_pass(&t, "canon_softmax_safe", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_ISNAN), 0);
  bench_close(&t);
}

static void softmax_safe_keeps(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 3));
  const float shut[6] = {0, -INFINITY, 0, -INFINITY, -INFINITY, -INFINITY};
  const tt_value mask = tt_graph_const(t.g, tt_type_make(TT_F32, DIMS(2, 3)), shut);
  result(&t, "y", guarded_softmax(&t, op2(&t, TT_OP_ADD, mask, x)));
  result(&t, "z", guarded_softmax(&t, op2(&t, TT_OP_ADD, x, input(&t, "mask", DIMS(2, 3)))));
  check_pass(&t, "canon_softmax_safe", TT_PASS_UNCHANGED);
  bench_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(layernorm),          cmocka_unit_test(layernorm_keeps), cmocka_unit_test(gelu_erf),
      cmocka_unit_test(gelu_tanh),          cmocka_unit_test(gelu_keeps),      cmocka_unit_test(softmax_safe),
      cmocka_unit_test(softmax_safe_keeps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
