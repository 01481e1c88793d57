/* opt_*: each pass once where it applies, once where it must keep its hands off. */
#include "tests/passes/pass_test.h"

static void pipelines_name_passes(void **state) {
  (void)state;
  for (int i = 0; i < tt_pipeline_count; i++)
    for (int k = 0; k < tt_pipelines[i].count; k++) assert_non_null(tt_pass_find(tt_pipelines[i].passes[k]));
  assert_null(tt_pass_find("opt_nothing"));
}

static void fold(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 3));
  const tt_value c = op2(&t, TT_OP_MUL, op1(&t, TT_OP_SQRT, number(&t, 16)), number(&t, 2));
  result(&t, "y", op2(&t, TT_OP_POW, x, c));
  check_pass(&t, "opt_fold", TT_PASS_CHANGED);
  assert_int_equal(count_nodes(t.g), 1);
  bench_close(&t);
}

static void fold_leaves_parameters(void **state) {
  (void)state;
  bench t = bench_open();
  result(&t, "y", op2(&t, TT_OP_MUL, param(&t, "w", DIMS(3)), number(&t, 2)));
  check_pass(&t, "opt_fold", TT_PASS_UNCHANGED);
  bench_close(&t);
}

static void cse(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value a = input(&t, "a", DIMS(2, 3)), b = input(&t, "b", DIMS(3));
  const tt_value s1 = op2(&t, TT_OP_ADD, a, b), s2 = op2(&t, TT_OP_ADD, b, a);
  const tt_value p1 = op2(&t, TT_OP_MUL, s1, number(&t, 3)), p2 = op2(&t, TT_OP_MUL, s2, number(&t, 3));
  result(&t, "y", op2(&t, TT_OP_SUB, p1, p2));
  result(&t, "p2", p2);
  check_pass(&t, "opt_cse", TT_PASS_CHANGED);
  assert_int_equal(count_nodes(t.g), 3);
  bench_close(&t);
}

static void cse_tells_apart(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value a = input(&t, "a", DIMS(2, 2)), b = input(&t, "b", DIMS(2, 2));
  const tt_value d = op2(&t, TT_OP_SUB, op2(&t, TT_OP_SUB, a, b), op2(&t, TT_OP_SUB, b, a));
  const tt_value e = op2(&t, TT_OP_ADD, transpose(&t, a, DIMS(1, 0)), transpose(&t, a, DIMS(0, 1)));
  result(&t, "y", op2(&t, TT_OP_MUL, d, op2(&t, TT_OP_MUL, e, number(&t, 1.5))));
  result(&t, "z", op2(&t, TT_OP_MUL, e, number(&t, 1.25)));
  check_pass(&t, "opt_cse", TT_PASS_UNCHANGED);
  bench_close(&t);
}

static void dce(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(4));
  op1(&t, TT_OP_NEG, op1(&t, TT_OP_EXP, x));
  result(&t, "y", op1(&t, TT_OP_TANH, x));
  check_pass(&t, "opt_dce", TT_PASS_CHANGED);
  assert_int_equal(count_nodes(t.g), 1);
  bench_close(&t);
}

static void algebra_identities(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 3));
  const uint8_t yes = 1;
  const tt_value cond = tt_graph_const(t.g, tt_type_scalar(TT_BOOL), &yes);
  tt_value y = op2(&t, TT_OP_ADD, op2(&t, TT_OP_MUL, number(&t, 1), x), number(&t, 0));
  y = op2(&t, TT_OP_POW, op2(&t, TT_OP_SUB, y, number(&t, 0)), number(&t, 1));
  y = tt_build3(at_end(&t), TT_OP_WHERE, cond, y, op1(&t, TT_OP_NEG, x), 0, NULL);
  y = slice(&t, y, 1, 0, 3);
  const tt_attr to = {.id = TT_A_TO, .as.i = TT_F32}, shape = tt_attr_ints(t.g, TT_A_SHAPE, DIMS(2, 3));
  y = tt_build1(at_end(&t), TT_OP_CAST, y, 1, &to);
  y = tt_build1(at_end(&t), TT_OP_EXPAND, y, 1, &shape);
  result(&t, "y", op1(&t, TT_OP_EXP, y));
  check_pass(&t, "opt_algebra", TT_PASS_CHANGED);
  assert_int_equal(count_nodes(t.g), 1);
  bench_close(&t);
}

static void algebra_factors(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 3));
  tt_value y = op2(&t, TT_OP_DIV, op2(&t, TT_OP_MUL, x, number(&t, 6)), number(&t, 4));
  y = op2(&t, TT_OP_MUL, number(&t, 0.7), y);
  result(&t, "y", y);
  check_pass(&t, "opt_algebra", TT_PASS_CHANGED);
  assert_int_equal(count_nodes(t.g), 1);
  bench_close(&t);
}

static void algebra_powers(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = op1(&t, TT_OP_EXP, input(&t, "x", DIMS(2, 3)));
  tt_value y = op2(&t, TT_OP_POW, x, number(&t, 2));
  y = op2(&t, TT_OP_ADD, y, op2(&t, TT_OP_POW, x, number(&t, 3)));
  result(&t, "y", op2(&t, TT_OP_ADD, y, op2(&t, TT_OP_POW, x, number(&t, 0.5))));
  check_pass(&t, "opt_algebra", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_POW), 0);
  bench_close(&t);
}

static void algebra_gather_and_matmul(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 3, 4)), k = input(&t, "k", DIMS(5, 4));
  const int64_t last = -1;
  const tt_value at = tt_graph_const(t.g, tt_type_scalar(TT_I64), &last);
  const tt_attr axis = tt_attr_int(TT_A_AXIS, 1);
  const tt_value row = tt_build2(at_end(&t), TT_OP_GATHER, x, at, 1, &axis); /* [2,4] */
  result(&t, "y", op2(&t, TT_OP_MATMUL, row, transpose(&t, k, DIMS(1, 0))));
  check_pass(&t, "opt_algebra", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_GATHER), 0);
  assert_int_equal(count_op(t.g, TT_OP_TRANSPOSE), 0);
  assert_int_equal(tt_node_int(t.g, find_op(t.g, TT_OP_MATMUL), TT_A_TRANS_B), 1);
  bench_close(&t);
}

/* A neutral operand that broadcasts, a shared product, a zero factor and a division by zero are not neutral. */
static void algebra_keeps(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(3)), zeros[] = {number(&t, 0)};
  const float none[6] = {0};
  const tt_value wide = tt_graph_const(t.g, tt_type_make(TT_F32, DIMS(2, 3)), none);
  const tt_value shared = op2(&t, TT_OP_MUL, x, number(&t, 2));
  result(&t, "a", op2(&t, TT_OP_ADD, x, wide));
  result(&t, "b", op2(&t, TT_OP_MUL, shared, number(&t, 5)));
  result(&t, "c", shared);
  result(&t, "d", op2(&t, TT_OP_MUL, x, zeros[0]));
  check_pass(&t, "opt_algebra", TT_PASS_UNCHANGED);
  bench_close(&t);
}

/* Long chains settle in few rounds. */
static void algebra_chains(void **state) {
  (void)state;
  bench t = bench_open();
  tt_value x = input(&t, "x", DIMS(3, 3)), y = x;
  for (int i = 0; i < 201; i++) x = transpose(&t, x, DIMS(1, 0));
  for (int i = 0; i < 200; i++) y = op2(&t, TT_OP_MUL, y, number(&t, i % 2 ? 2 : 0.5));
  result(&t, "y", op2(&t, TT_OP_MATMUL, y, x));
  check_pass(&t, "opt_algebra", TT_PASS_CHANGED);
  assert_int_equal(count_nodes(t.g), 1);
  bench_close(&t);
}

static void views_cancel(void **state) {
  (void)state;
  bench t = bench_open();
  tt_value x = input(&t, "x", DIMS(2, 6, 4));
  x = transpose(&t, x, DIMS(0, 2, 1));
  x = reshape(&t, x, DIMS(2, 4, 2, 3));
  x = reshape(&t, x, DIMS(2, 4, 6));
  x = transpose(&t, x, DIMS(0, 2, 1));
  result(&t, "y", op1(&t, TT_OP_EXP, x));
  check_pass(&t, "opt_views", TT_PASS_CHANGED);
  assert_int_equal(count_nodes(t.g), 1);
  bench_close(&t);
}

static void views_join(void **state) {
  (void)state;
  bench t = bench_open();
  tt_value x = input(&t, "x", DIMS(2, 5, 12));
  x = reshape(&t, x, DIMS(2, 5, 3, 4));
  x = transpose(&t, x, DIMS(0, 2, 1, 3)); /* [2,3,5,4] */
  x = reshape(&t, x, DIMS(6, 5, 4));
  x = transpose(&t, x, DIMS(0, 2, 1)); /* [6,4,5] */
  result(&t, "y", reshape(&t, x, DIMS(2, 3, 4, 5)));
  check_pass(&t, "opt_views", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_TRANSPOSE), 1);
  assert_int_equal(count_op(t.g, TT_OP_RESHAPE), 1);
  bench_close(&t);
}

static void views_of_size_one(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 1, 3));
  result(&t, "y", transpose(&t, x, DIMS(1, 0, 2)));
  check_pass(&t, "opt_views", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_TRANSPOSE), 0);
  assert_int_equal(count_op(t.g, TT_OP_RESHAPE), 1);
  bench_close(&t);
}

/* One transpose and the reshapes it needs are the shortest there is, also where a reshape joins what memory does not. */
static void views_keep(void **state) {
  (void)state;
  bench t = bench_open();
  tt_value x = reshape(&t, input(&t, "x", DIMS(2, 12)), DIMS(2, 3, 4));
  result(&t, "y", reshape(&t, transpose(&t, x, DIMS(0, 2, 1)), DIMS(2, 12)));
  result(&t, "z", transpose(&t, input(&t, "u", DIMS(1, 6, 4)), DIMS(0, 2, 1)));
  check_pass(&t, "opt_views", TT_PASS_UNCHANGED);
  bench_close(&t);
}

/* Random chains: whatever they do, the pass keeps their meaning. */
static void views_random(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 200; seed++) {
    bench t = bench_open();
    const int64_t shapes[][4] = {{2, 3, 4, 6}, {6, 4, 2, 3}, {1, 12, 4, 3}, {4, 6, 6, 1}, {3, 8, 3, 2}};
    tt_value x = input(&t, "x", 4, shapes[seed % 5]);
    for (uint64_t i = 0; i < 5; i++) {
      const uint64_t pick = (uint64_t)((noise(seed, i) + 1) * 1000);
      int64_t perm[4] = {0, 1, 2, 3};
      for (uint64_t k = 3; k > 0; k--) {
        const uint64_t j = (pick >> k) % (k + 1);
        const int64_t swap = perm[k];
        perm[k] = perm[j];
        perm[j] = swap;
      }
      x = pick % 3 ? transpose(&t, x, 4, perm) : reshape(&t, x, 4, shapes[pick % 5]);
    }
    result(&t, "y", op1(&t, TT_OP_NEG, x));
    check_meaning(&t, "opt_views");
    bench_close(&t);
  }
}

/* A residual branch of which one position is wanted, and of that every other channel, which only the elementwise ops pass on. */
static void slices_keep_meaning(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 5, 4)), p = input(&t, "p", DIMS(5, 4)), n = input(&t, "n", DIMS(4));
  const tt_value w = input(&t, "w", DIMS(6, 4)), u = input(&t, "u", DIMS(4, 6));
  const tt_value stream = op2(&t, TT_OP_ADD, x, p);
  const tt_attr eps = {.id = TT_A_EPSILON, .as.f = 1e-6};
  tt_value y = tt_build3(at_end(&t), TT_OP_LAYERNORM, stream, n, n, 1, &eps);
  y = op2(&t, TT_OP_LINEAR, op1(&t, TT_OP_TANH, op2(&t, TT_OP_LINEAR, y, w)), u);
  y = slice(&t, op2(&t, TT_OP_ADD, stream, y), 1, 3, 4);
  result(&t, "y", slice(&t, op1(&t, TT_OP_EXP, y), 2, 1, 3));
  check_meaning(&t, "opt_slices");
  assert_int_equal(tt_typ(t.g, tt_nod(t.g, find_op(t.g, TT_OP_LAYERNORM))->out[0])->dim[1], 1);
  bench_close(&t);
}

/* A slice passes one node a round, and there may be many; one of nothing stays where it is. */
static void slices_climb_far(void **state) {
  (void)state;
  bench t = bench_open();
  tt_value y = input(&t, "x", DIMS(1, 4)), z = op1(&t, TT_OP_TANH, y);
  for (int i = 0; i < 200; i++) y = op1(&t, TT_OP_NEG, y);
  result(&t, "y", slice(&t, y, 1, 2, 3));
  result(&t, "z", slice(&t, z, 0, 0, 0));
  check_pass(&t, "opt_slices", TT_PASS_CHANGED);
  assert_int_equal(tt_typ(t.g, tt_nod(t.g, find_op(t.g, TT_OP_NEG))->out[0])->dim[1], 1);
  assert_int_equal(tt_typ(t.g, tt_nod(t.g, find_op(t.g, TT_OP_TANH))->out[0])->dim[0], 1);
  bench_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pipelines_name_passes),  cmocka_unit_test(fold),
      cmocka_unit_test(fold_leaves_parameters), cmocka_unit_test(cse),
      cmocka_unit_test(cse_tells_apart),        cmocka_unit_test(dce),
      cmocka_unit_test(algebra_identities),     cmocka_unit_test(algebra_factors),
      cmocka_unit_test(algebra_powers),         cmocka_unit_test(algebra_gather_and_matmul),
      cmocka_unit_test(algebra_keeps),          cmocka_unit_test(algebra_chains),
      cmocka_unit_test(views_cancel),           cmocka_unit_test(views_join),
      cmocka_unit_test(views_of_size_one),      cmocka_unit_test(views_keep),
      cmocka_unit_test(views_random),           cmocka_unit_test(slices_keep_meaning),
      cmocka_unit_test(slices_climb_far),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
