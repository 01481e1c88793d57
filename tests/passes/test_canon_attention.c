/* canon_attention: layouts of several exporters, and what must stay matmul and softmax. */
#include "tests/passes/pass_test.h"

enum { B = 2, N = 5, H = 3, D = 4, W = H * D };

static tt_value matmul(bench *t, tt_value a, tt_value b) { return op2(t, TT_OP_MATMUL, a, b); }

/* [B,N,H d] of the weighted sum [B,H,N,d], as models merge heads */
static tt_value merge(bench *t, tt_value y) { return reshape(t, transpose(t, y, DIMS(0, 2, 1, 3)), DIMS(B, N, W)); }

static void expect_attention(bench *t, int n_in, double scale) {
  const tt_node n = find_op(t->g, TT_OP_ATTENTION);
  assert_int_not_equal(n, TT_NONE);
  assert_int_equal(tt_nod(t->g, n)->n_in, n_in);
  assert_int_equal(tt_node_int(t->g, n, TT_A_HEADS), H);
  assert_true(fabs(tt_node_float(t->g, n, TT_A_SCALE) - scale) < 1e-6);
}

/* qkv -> [3,B,H,N,d] -> three slices, scale on q and k^T, on q, or on the scores */
static void packed(void **state) {
  (void)state;
  for (int form = 0; form < 3; form++) {
    bench t = bench_open();
    tt_value x = reshape(&t, input(&t, "qkv", DIMS(B, N, 3 * W)), DIMS(B, N, 3, H, D));
    x = transpose(&t, x, DIMS(2, 0, 3, 1, 4));
    tt_value part[3];
    for (int i = 0; i < 3; i++) part[i] = reshape(&t, slice(&t, x, 0, i, i + 1), DIMS(B, H, N, D));
    tt_value q = part[0], k = transpose(&t, part[1], DIMS(0, 1, 3, 2));
    if (form == 0) q = op2(&t, TT_OP_MUL, q, number(&t, sqrt(0.5))), k = op2(&t, TT_OP_MUL, k, number(&t, sqrt(0.5)));
    if (form == 1) q = op2(&t, TT_OP_DIV, q, number(&t, 2));
    tt_value s = matmul(&t, q, k);
    if (form == 2) s = op2(&t, TT_OP_MUL, number(&t, 0.5), s);
    result(&t, "y", merge(&t, matmul(&t, op1(&t, TT_OP_SOFTMAX, s), part[2])));
    check_pass(&t, "canon_attention", TT_PASS_CHANGED);
    check_pass(&t, "opt_views", TT_PASS_CHANGED);
    expect_attention(&t, 1, 0.5);
    assert_int_equal(count_nodes(t.g), 1);
    bench_close(&t);
  }
}

/* Each row sliced into q, k, v before heads are split; batch and heads in one dimension, as bmm takes them. */
static void packed_by_columns(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value x = input(&t, "qkv", DIMS(B, N, 3 * W));
  tt_value part[3];
  for (int i = 0; i < 3; i++) {
    const tt_value rows = reshape(&t, slice(&t, x, 2, i * W, (i + 1) * W), DIMS(B, N, H, D));
    part[i] = reshape(&t, transpose(&t, rows, DIMS(0, 2, 1, 3)), DIMS(B * H, N, D));
  }
  const tt_value s = matmul(&t, part[0], transpose(&t, part[1], DIMS(0, 2, 1)));
  const tt_value y = matmul(&t, op1(&t, TT_OP_SOFTMAX, s), part[2]);
  result(&t, "y", merge(&t, reshape(&t, y, DIMS(B, H, N, D))));
  check_pass(&t, "canon_attention", TT_PASS_CHANGED);
  check_pass(&t, "opt_views", TT_PASS_CHANGED);
  expect_attention(&t, 1, 1);
  assert_int_equal(count_nodes(t.g), 1);
  bench_close(&t);
}

static tt_value heads_of(bench *t, const char *name) {
  return transpose(t, reshape(t, input(t, name, DIMS(B, N, W)), DIMS(B, N, H, D)), DIMS(0, 2, 1, 3));
}

static void separate(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value q = heads_of(&t, "q"), k = heads_of(&t, "k"), v = heads_of(&t, "v");
  tt_value kt = transpose(&t, reshape(&t, k, DIMS(B * H, N, D)), DIMS(0, 2, 1));
  kt = op2(&t, TT_OP_MUL, reshape(&t, kt, DIMS(B, H, D, N)), number(&t, 0.5));
  const tt_value p = op1(&t, TT_OP_SOFTMAX, matmul(&t, op2(&t, TT_OP_MUL, q, number(&t, 0.5)), kt));
  result(&t, "y", merge(&t, matmul(&t, p, v)));
  check_pass(&t, "canon_attention", TT_PASS_CHANGED);
  check_pass(&t, "opt_views", TT_PASS_CHANGED);
  expect_attention(&t, 3, 0.25);
  assert_int_equal(count_nodes(t.g), 1);
  bench_close(&t);
}

/* q and k pass through an op of their own after heads are split: attention still, with the movements it takes. */
static void other(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value q = op1(&t, TT_OP_TANH, heads_of(&t, "q")), k = op1(&t, TT_OP_TANH, heads_of(&t, "k"));
  const tt_value scaled = op2(&t, TT_OP_MUL, q, number(&t, 0.5));
  const tt_value s = op2(&t, TT_OP_DIV, matmul(&t, scaled, transpose(&t, k, DIMS(0, 1, 3, 2))), number(&t, 2));
  result(&t, "y", merge(&t, matmul(&t, op1(&t, TT_OP_SOFTMAX, s), heads_of(&t, "v"))));
  check_pass(&t, "canon_attention", TT_PASS_CHANGED);
  expect_attention(&t, 3, 0.5);
  assert_int_equal(count_op(t.g, TT_OP_SOFTMAX), 0);
  bench_close(&t);
}

/* One image, one head: the dimensions of size 1 leave no trace in a view. */
static void degenerate(void **state) {
  (void)state;
  for (int64_t i = 0; i < 4; i++) {
    const int64_t b = i & 1 ? 1 : 2, h = i & 2 ? 1 : 3, w = h * D;
    bench t = bench_open();
    tt_value x = reshape(&t, input(&t, "qkv", DIMS(b, N, 3 * w)), DIMS(b, N, 3, h, D));
    x = transpose(&t, x, DIMS(2, 0, 3, 1, 4));
    tt_value part[3];
    for (int k = 0; k < 3; k++) part[k] = reshape(&t, slice(&t, x, 0, k, k + 1), DIMS(b, h, N, D));
    const tt_value s = matmul(&t, part[0], transpose(&t, part[1], DIMS(0, 1, 3, 2)));
    result(&t, "y", matmul(&t, op1(&t, TT_OP_SOFTMAX, s), part[2]));
    check_pass(&t, "canon_attention", TT_PASS_CHANGED);
    assert_int_equal(tt_nod(t.g, find_op(t.g, TT_OP_ATTENTION))->n_in, 1);
    assert_int_equal(tt_node_int(t.g, find_op(t.g, TT_OP_ATTENTION), TT_A_HEADS), h);
    bench_close(&t);
  }
}

/* A bias on the scores, an attention map that is a result, and unequal numbers of tokens stay as they are. */
static void attention_keeps(void **state) {
  (void)state;
  bench t = bench_open();
  const tt_value q = heads_of(&t, "q"), k = heads_of(&t, "k"), v = heads_of(&t, "v");
  const tt_value kt = transpose(&t, k, DIMS(0, 1, 3, 2));
  const tt_value s = op2(&t, TT_OP_ADD, matmul(&t, q, kt), param(&t, "table", DIMS(H, N, N)));
  result(&t, "a", merge(&t, matmul(&t, op1(&t, TT_OP_SOFTMAX, s), v)));
  const tt_value map = op1(&t, TT_OP_SOFTMAX, matmul(&t, v, kt));
  result(&t, "b", merge(&t, matmul(&t, map, q)));
  result(&t, "map", map);
  const tt_value few = slice(&t, q, 2, 0, 1);
  result(&t, "c", matmul(&t, op1(&t, TT_OP_SOFTMAX, matmul(&t, few, kt)), v));
  check_pass(&t, "canon_attention", TT_PASS_UNCHANGED);
  bench_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(packed), cmocka_unit_test(packed_by_columns), cmocka_unit_test(separate),
      cmocka_unit_test(other),  cmocka_unit_test(degenerate),        cmocka_unit_test(attention_keeps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
