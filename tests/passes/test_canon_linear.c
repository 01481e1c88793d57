/* canon_linear and canon_patch_embed. */
#include "tests/passes/pass_test.h"

static tt_value matmul(bench *t, tt_value a, tt_value b, int trans_a, int trans_b) {
  const tt_attr flags[] = {tt_attr_int(TT_A_TRANS_A, trans_a), tt_attr_int(TT_A_TRANS_B, trans_b)};
  return tt_build2(at_end(t), TT_OP_MATMUL, a, b, 2, flags);
}

static const tt_var *var_of(const bench *t, tt_value v) { return &t->m->vars.data[tt_val(t->g, v)->index]; }

static void expect_only(const bench *t, tt_op op, int n) {
  assert_int_equal(count_op(t->g, op), n);
  assert_int_equal(count_nodes(t->g), n);
}

/* matmul with [in, out], bias on either side: the parameter is turned once, its exported form remembered. */
static void matmul_and_bias(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(2, 5, 20));
  const tt_value w1 = param(&t, "w1", DIMS(20, 37)), b1 = param(&t, "b1", DIMS(37));
  const tt_value w2 = param(&t, "w2", DIMS(37, 3)), b2 = param(&t, "b2", DIMS(3));
  const tt_value h = op2(&t, TT_OP_ADD, b1, matmul(&t, x, w1, 0, 0));
  result(&t, "y", op2(&t, TT_OP_ADD, matmul(&t, h, w2, 0, 0), b2));
  check_pass(&t, "canon_linear", TT_PASS_CHANGED);
  expect_only(&t, TT_OP_LINEAR, 2);
  assert_true(var_of(&t, w1)->origin_transposed);
  assert_int_equal(var_of(&t, w1)->type.dim[0], 37);
  assert_int_equal(tt_nod(t.g, t.g->first)->n_in, 3);
  bench_close(&t);
}

/* What Gemm with transB and Transpose(W) -> MatMul come as: the parameter is [out, in] and stays. */
static void stored_out_in(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(5, 4));
  const tt_value w1 = param(&t, "w1", DIMS(6, 4)), w2 = param(&t, "w2", DIMS(3, 6));
  const tt_value h = matmul(&t, x, w1, 0, 1);
  result(&t, "y", matmul(&t, h, transpose(&t, w2, DIMS(1, 0)), 0, 0));
  check_pass(&t, "canon_linear", TT_PASS_CHANGED);
  expect_only(&t, TT_OP_LINEAR, 2);
  assert_false(var_of(&t, w1)->origin_transposed);
  assert_false(var_of(&t, w2)->origin_transposed);
  bench_close(&t);
}

static void gemm_trans_a(void **state) {
  (void)state;
  bench t = bench_open();
  result(&t, "y", matmul(&t, input(&t, "x", DIMS(4, 5)), param(&t, "w", DIMS(4, 6)), 1, 0));
  check_pass(&t, "canon_linear", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_LINEAR), 1);
  assert_int_equal(count_op(t.g, TT_OP_TRANSPOSE), 1);
  bench_close(&t);
}

/* A weight used twice the same way turns; one that something else reads stays, and the graph transposes. */
static void shared_weights(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(5, 4));
  const tt_value twice = param(&t, "twice", DIMS(4, 4)), tied = param(&t, "tied", DIMS(4, 6));
  const tt_value h = matmul(&t, matmul(&t, x, twice, 0, 0), twice, 0, 0);
  result(&t, "y", matmul(&t, h, tied, 0, 0));
  result(&t, "z", op1(&t, TT_OP_NEG, tied));
  check_pass(&t, "canon_linear", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_LINEAR), 3);
  assert_int_equal(count_op(t.g, TT_OP_TRANSPOSE), 1);
  assert_true(var_of(&t, twice)->origin_transposed);
  assert_false(var_of(&t, tied)->origin_transposed);
  assert_int_equal(var_of(&t, tied)->type.dim[0], 4);
  bench_close(&t);
}

/* An embedding tied to the head both ways round: neither use may be broken. */
static void both_ways(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(5, 4)), w = param(&t, "w", DIMS(4, 6));
  result(&t, "y", matmul(&t, matmul(&t, x, w, 0, 0), w, 0, 1));
  check_pass(&t, "canon_linear", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_LINEAR), 2);
  assert_int_equal(count_op(t.g, TT_OP_TRANSPOSE), 1);
  bench_close(&t);
}

static void flattened(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = reshape(&t, input(&t, "x", DIMS(2, 5, 4)), DIMS(10, 4));
  const tt_value y = op2(&t, TT_OP_ADD, matmul(&t, x, param(&t, "w", DIMS(4, 6)), 0, 0), param(&t, "b", DIMS(6)));
  result(&t, "y", reshape(&t, y, DIMS(2, 5, 6)));
  check_pass(&t, "canon_linear", TT_PASS_CHANGED);
  expect_only(&t, TT_OP_LINEAR, 1);
  bench_close(&t);
}

/* Activations times activations; a bias that broadcasts over rows; a product that others see without bias. */
static void linear_keeps(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "x", DIMS(5, 4)), y = input(&t, "y", DIMS(4, 6));
  result(&t, "a", matmul(&t, x, y, 0, 0));
  const tt_value w = param(&t, "w", DIMS(6, 4)), b = param(&t, "b", DIMS(6)), rows = param(&t, "rows", DIMS(5, 1));
  const tt_value seen = op2(&t, TT_OP_LINEAR, x, w);
  result(&t, "b", op2(&t, TT_OP_ADD, seen, b));
  result(&t, "c", seen);
  result(&t, "d", op2(&t, TT_OP_ADD, op2(&t, TT_OP_LINEAR, op1(&t, TT_OP_NEG, x), w), rows));
  check_pass(&t, "canon_linear", TT_PASS_UNCHANGED);
  bench_close(&t);
}

static tt_value conv(bench *t, tt_value x, tt_value w, tt_value b, int64_t stride, int64_t pad) {
  const tt_value in[] = {x, w, b};
  const tt_attr a[] = {tt_attr_ints(t->g, TT_A_STRIDES, 2, (int64_t[]){stride, stride}),
                       tt_attr_ints(t->g, TT_A_PADS, 4, (int64_t[]){pad, pad, pad, pad}),
                       tt_attr_ints(t->g, TT_A_DILATIONS, 2, (int64_t[]){1, 1}), tt_attr_int(TT_A_GROUP, 1)};
  const tt_node n = tt_build(at_end(t), TT_OP_CONV, b == TT_NONE ? 2 : 3, in, 4, a);
  assert_int_not_equal(n, TT_NONE);
  return tt_nod(t->g, n)->out[0];
}

/* The movements put around the linear cancel against those that models put behind: one transpose, of the image, stays. */
static void patch_embedding(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value w = param(&t, "w", DIMS(5, 3, 4, 4)), b = param(&t, "b", DIMS(5));
  const tt_value y = conv(&t, input(&t, "x", DIMS(2, 3, 8, 12)), w, b, 4, 0); /* [2,5,2,3] */
  result(&t, "y", transpose(&t, reshape(&t, y, DIMS(2, 5, 6)), DIMS(0, 2, 1)));
  check_pass(&t, "canon_patch_embed", TT_PASS_CHANGED);
  check_pass(&t, "opt_views", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_LINEAR), 1);
  assert_int_equal(count_op(t.g, TT_OP_TRANSPOSE), 1);
  assert_int_equal(count_nodes(t.g), 4);
  assert_int_equal(var_of(&t, w)->type.rank, 2);
  assert_int_equal(var_of(&t, w)->type.dim[1], 48);
  bench_close(&t);
}

/* No bias, an image that is no multiple of the patch, a kernel that another node reads. */
static void patch_embedding_odd(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value w = param(&t, "w", DIMS(5, 1, 3, 3));
  result(&t, "y", conv(&t, input(&t, "x", DIMS(2, 1, 8, 10)), w, TT_NONE, 3, 0));
  result(&t, "z", op1(&t, TT_OP_NEG, w));
  check_pass(&t, "canon_patch_embed", TT_PASS_CHANGED);
  assert_int_equal(count_op(t.g, TT_OP_SLICE), 1);
  assert_int_equal(var_of(&t, w)->type.rank, 4);
  bench_close(&t);
}

static void conv_keeps(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value w = param(&t, "w", DIMS(5, 1, 3, 3));
  result(&t, "y", conv(&t, input(&t, "x", DIMS(2, 1, 8, 10)), w, TT_NONE, 2, 0));
  result(&t, "z", conv(&t, input(&t, "u", DIMS(2, 1, 9, 9)), w, TT_NONE, 3, 1));
  check_pass(&t, "canon_patch_embed", TT_PASS_UNCHANGED);
  bench_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(matmul_and_bias), cmocka_unit_test(stored_out_in),   cmocka_unit_test(gemm_trans_a),
      cmocka_unit_test(shared_weights),  cmocka_unit_test(both_ways),       cmocka_unit_test(flattened),
      cmocka_unit_test(linear_keeps),    cmocka_unit_test(patch_embedding), cmocka_unit_test(patch_embedding_odd),
      cmocka_unit_test(conv_keeps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
