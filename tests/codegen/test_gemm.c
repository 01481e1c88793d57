/* matmul and linear: generated code against the evaluator, over shapes that meet every edge of tiles, panels and chunks. */
#include <math.h>
#include "jit_case.h"

typedef struct shape {
  tt_op op;
  int batch_a, batch_b; /* 0: no such dimension */
  int M, N, K, ta, tb, bias;
} shape;

static tt_type matrix(int batch, int rows, int cols) {
  int64_t dim[3] = {batch, rows, cols};
  return batch ? tt_type_make(TT_F32, 3, dim) : tt_type_make(TT_F32, 2, dim + 1);
}

static tt_tensor random_tensor(tt_arena *arena, tt_type type, uint32_t *state) {
  tt_tensor t = tt_tensor_new(arena, type);
  for (int64_t i = 0; i < tt_type_count(&type); i++) t.d[i] = ((double)(jit_random(state) % 2001) - 1000) / 1024;
  return t;
}

static void check(const shape *s, const char *target, int threads) {
  tt_type types[3] = {s->ta ? matrix(s->batch_a, s->K, s->M) : matrix(s->batch_a, s->M, s->K),
                      s->tb ? matrix(s->batch_b, s->N, s->K) : matrix(s->batch_b, s->K, s->N),
                      tt_type_make(TT_F32, 1, (int64_t[]){s->N})};
  tt_attr attrs[2] = {tt_attr_int(TT_A_TRANS_A, s->ta), tt_attr_int(TT_A_TRANS_B, s->tb)};
  jit_case t = jit_case_next(s->op, 2 + s->bias, types, s->op == TT_OP_MATMUL ? 2 : 0, attrs, target);
  if (!t.jit) {
    jit_case_close(&t);
    return;
  }
  uint32_t state = 1;
  tt_tensor in[3], want;
  for (int i = 0; i < 2 + s->bias; i++) in[i] = random_tensor(t.arena, types[i], &state);
  tt_tensor got = jit_case_run(&t, in, threads);
  tt_eval_graph(t.g, in, NULL, &want, false, t.arena);
  double worst = 0;
  for (int64_t i = 0; i < tt_type_count(&t.type); i++) worst = fmax(worst, fabs(got.d[i] - want.d[i]));
  if (!(worst < 1e-6 * s->K + 1e-6))
    fail_msg("%s %dx%dx%d ta %d tb %d on %s: error %g", tt_ops[s->op].name, s->M, s->N, s->K, s->ta, s->tb, target, worst);
  jit_case_close(&t);
}

static void sweep(const shape *shapes, int n) {
  for (const char *const *target = jit_targets(); *target; target++)
    for (int i = 0; i < n; i++) check(&shapes[i], *target, 1 + i % 3);
}

static void test_matmul(void **state) {
  (void)state;
  static const shape shapes[] = {
      {TT_OP_MATMUL, 0, 0, 1, 1, 1, 0, 0, 0},      {TT_OP_MATMUL, 0, 0, 5, 7, 3, 0, 1, 0},
      {TT_OP_MATMUL, 0, 0, 65, 67, 130, 0, 0, 0},  {TT_OP_MATMUL, 0, 0, 65, 67, 130, 0, 1, 0},
      {TT_OP_MATMUL, 0, 0, 65, 67, 130, 1, 0, 0},  {TT_OP_MATMUL, 0, 0, 65, 67, 130, 1, 1, 0},
      {TT_OP_MATMUL, 0, 0, 96, 64, 1500, 1, 0, 0}, {TT_OP_MATMUL, 0, 0, 100, 70, 2111, 1, 0, 0},
      {TT_OP_MATMUL, 0, 0, 300, 100, 600, 0, 0, 0},
  };
  sweep(shapes, sizeof shapes / sizeof shapes[0]);
}

static void test_batches(void **state) {
  (void)state;
  static const shape shapes[] = {
      {TT_OP_MATMUL, 3, 3, 17, 20, 33, 0, 1, 0},   {TT_OP_MATMUL, 3, 0, 17, 20, 33, 0, 0, 0},
      {TT_OP_MATMUL, 3, 0, 17, 20, 33, 1, 0, 0},   {TT_OP_MATMUL, 0, 3, 17, 20, 33, 1, 0, 0},
      {TT_OP_MATMUL, 1, 4, 17, 20, 33, 0, 0, 0},   {TT_OP_MATMUL, 40, 40, 20, 20, 20, 0, 1, 0},
      {TT_OP_MATMUL, 3, 3, 100, 70, 129, 1, 1, 0},
  };
  sweep(shapes, sizeof shapes / sizeof shapes[0]);
}

static void test_linear(void **state) {
  (void)state;
  static const shape shapes[] = {
      {TT_OP_LINEAR, 0, 0, 33, 50, 40, 0, 1, 1},
      {TT_OP_LINEAR, 3, 0, 33, 48, 64, 0, 1, 1},
      {TT_OP_LINEAR, 0, 0, 700, 100, 300, 0, 1, 1},
      {TT_OP_LINEAR, 0, 0, 48, 64, 32, 0, 1, 0},
  };
  sweep(shapes, sizeof shapes / sizeof shapes[0]);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_matmul), cmocka_unit_test(test_batches),
                                     cmocka_unit_test(test_linear)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
