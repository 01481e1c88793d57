/* A block in elementary ops and its canonical form train alike: same loss, same gradients. So a spelling that canon_* does
 * not know costs speed, never correctness. */
#include "tests/passes/pass_test.h"

enum { B = 2, N = 5, H = 2, D = 4, W = H * D, C = 3 };

static tt_value mean(bench *t, tt_value x, int64_t axis, int keep) {
  const tt_attr a[] = {tt_attr_ints(t->g, TT_A_AXES, 1, &axis), tt_attr_int(TT_A_KEEPDIMS, keep)};
  return tt_build1(at_end(t), TT_OP_REDUCE_MEAN, x, 2, a);
}

static tt_value norm(bench *t, tt_value x) {
  const tt_value centred = op2(t, TT_OP_SUB, x, mean(t, x, 2, 1));
  const tt_value variance = mean(t, op2(t, TT_OP_POW, centred, number(t, 2)), 2, 1);
  const tt_value deviation = op1(t, TT_OP_SQRT, op2(t, TT_OP_ADD, variance, number(t, 1e-5)));
  const tt_value y = op2(t, TT_OP_DIV, centred, deviation);
  return op2(t, TT_OP_ADD, op2(t, TT_OP_MUL, y, param(t, "gamma", DIMS(W))), param(t, "beta", DIMS(W)));
}

static tt_value attention(bench *t, tt_value x) {
  tt_value part[3];
  x = op2(t, TT_OP_ADD, op2(t, TT_OP_MATMUL, x, param(t, "qkv", DIMS(W, 3 * W))), param(t, "qkv.bias", DIMS(3 * W)));
  x = transpose(t, reshape(t, x, DIMS(B, N, 3, H, D)), DIMS(2, 0, 3, 1, 4));
  for (int i = 0; i < 3; i++) part[i] = reshape(t, slice(t, x, 0, i, i + 1), DIMS(B, H, N, D));
  const tt_value q = op2(t, TT_OP_MUL, part[0], number(t, 0.5)), k = transpose(t, part[1], DIMS(0, 1, 3, 2));
  const tt_value p = op1(t, TT_OP_SOFTMAX, op2(t, TT_OP_MATMUL, q, k));
  const tt_value y = transpose(t, op2(t, TT_OP_MATMUL, p, part[2]), DIMS(0, 2, 1, 3));
  return op2(t, TT_OP_MATMUL, reshape(t, y, DIMS(B, N, W)), param(t, "proj", DIMS(W, W)));
}

static tt_value gelu(bench *t, tt_value x) {
  const tt_value gate = op2(t, TT_OP_ADD, op1(t, TT_OP_ERF, op2(t, TT_OP_DIV, x, number(t, sqrt(2)))), number(t, 1));
  return op2(t, TT_OP_MUL, op2(t, TT_OP_MUL, x, gate), number(t, 0.5));
}

static bench block(void) {
  bench t = bench_open();
  const tt_value x = input(&t, "images", DIMS(B, N, W));
  const tt_value h = op2(&t, TT_OP_ADD, x, attention(&t, norm(&t, x)));
  const tt_value y = op2(&t, TT_OP_MATMUL, gelu(&t, op2(&t, TT_OP_MATMUL, h, param(&t, "fc1", DIMS(W, W)))),
                         param(&t, "head", DIMS(W, C)));
  result(&t, "logits", mean(&t, y, 1, 0));
  return t;
}

static const tt_pipeline *pipeline(const char *name) {
  for (int i = 0; i < tt_pipeline_count; i++)
    if (strcmp(tt_pipelines[i].name, name) == 0) return &tt_pipelines[i];
  fail_msg("no pipeline '%s'", name);
  return NULL;
}

/* Both pipelines, without the canonical forms whose absence is to be tested. */
static void differentiate(bench *t, bool canonical) {
  const char *const stages[] = {"forward", "grad"};
  for (int s = 0; s < 2; s++) {
    const tt_pipeline *p = pipeline(stages[s]);
    for (int i = 0; i < p->count; i++) {
      const bool form = strncmp(p->passes[i], "canon_", 6) == 0 && strcmp(p->passes[i], "canon_linear") != 0;
      if (form && !canonical) continue;
      assert_int_not_equal(run_pass(t, p->passes[i]), TT_PASS_FAILED);
    }
  }
}

static void same_gradients(void **state) {
  (void)state;
  bench plain = block(), canonical = block();
  differentiate(&plain, false);
  differentiate(&canonical, true);
  assert_int_equal(count_op(plain.g, TT_OP_ATTENTION) + count_op(plain.g, TT_OP_GELU), 0);
  assert_int_equal(count_op(canonical.g, TT_OP_ATTENTION_GRAD), 1);
  assert_int_equal(count_op(canonical.g, TT_OP_LAYERNORM_GRAD), 1);
  assert_int_equal(count_op(canonical.g, TT_OP_GELU_GRAD), 1);
  tt_arena *arena = tt_arena_create();
  const tt_tensor *a = evaluate(plain.g, arena), *b = evaluate(canonical.g, arena);
  assert_int_equal(plain.g->results.count, canonical.g->results.count);
  int gradients = 0;
  for (size_t i = 0; i < plain.g->results.count; i++) {
    assert_string_equal(plain.g->results.data[i].name, canonical.g->results.data[i].name);
    assert_true(distance(&a[i], &b[i]) < 1e-6);
    gradients += strncmp(plain.g->results.data[i].name, "grad:", 5) == 0;
  }
  assert_int_equal(gradients, 7);
  tt_arena_destroy(arena);
  bench_close(&plain);
  bench_close(&canonical);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(same_gradients)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
