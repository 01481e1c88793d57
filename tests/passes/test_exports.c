/* The forward pipeline on models as exporters write them: every pass keeps the meaning, and what is left are the ops that
 * the rest of the compiler knows kernels and gradients for. Skips where ../shared/models is absent. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "compiler/onnx/onnx.h"
#include "tests/passes/pass_test.h"

static const char *find_model(const char *name, char *path, size_t n) {
  const char *const dirs[] = {TETRAC_SOURCE_DIR "/../shared/models", TETRAC_SOURCE_DIR "/../../shared/models"};
  for (int i = 0; i < 2; i++) {
    snprintf(path, n, "%s/%s", dirs[i], name);
    if (access(path, R_OK) == 0) return path;
  }
  fprintf(stderr, "SKIP: no ../shared/models/%s\n", name);
  skip();
  return NULL;
}

/* All passes of the pipeline but the one that quantizes, which changes numbers on purpose. */
static void run_forward(bench *t, bool compare) {
  tt_arena *arena = tt_arena_create();
  const tt_tensor *before = compare ? evaluate(t->g, arena) : NULL;
  for (int i = 0; i < tt_pipelines[0].count; i++) {
    const char *name = tt_pipelines[0].passes[i];
    if (strcmp(name, "lower_mx") == 0) continue;
    const tt_pass_result said = run_pass(t, name);
    assert_int_not_equal(said, TT_PASS_FAILED);
    assert_int_equal(run_pass(t, name), TT_PASS_UNCHANGED);
    if (!compare || said == TT_PASS_UNCHANGED) continue;
    const tt_tensor *after = evaluate(t->g, arena);
    if (distance(&before[0], &after[0]) > 1e-6)
      fail_msg("%s changes the result by %g", name, distance(&before[0], &after[0]));
  }
  tt_arena_destroy(arena);
}

static bench load(const char *name, int64_t batch, tt_arena *arena) {
  char path[1024];
  bench t = {0};
  tt_diag_init(&t.diag, stderr);
  tt_recipe_defaults(&t.recipe);
  tt_onnx_model *model = tt_onnx_load(find_model(name, path, sizeof path), arena, &t.diag);
  assert_non_null(model);
  t.m = tt_onnx_import(model, batch, NULL, &t.diag);
  assert_non_null(t.m);
  t.g = tt_module_find_graph(t.m, "forward");
  assert_non_null(t.g);
  return t;
}

typedef struct expected {
  tt_op op;
  int count;
} expected;

/* Every op of the graph is listed; those with count >= 0 that often. */
static void expect_ops(const bench *t, const expected *e, int n) {
  int seen = 0;
  for (int i = 0; i < n; i++) {
    const int count = count_op(t->g, e[i].op);
    seen += count;
    if (e[i].count >= 0 && count != e[i].count) fail_msg("%d %s, expected %d", count, tt_ops[e[i].op].name, e[i].count);
  }
  TT_FOR_NODES(t->g, k) {
    bool known = false;
    for (int i = 0; i < n; i++) known |= tt_nod(t->g, k)->op == e[i].op;
    if (!known) fail_msg("%s is left", tt_ops[tt_nod(t->g, k)->op].name);
  }
  assert_int_equal(seen, count_nodes(t->g));
}

/* depth 4: qkv, proj, fc1, fc2 a block, patch embedding and head; two norms a block and the last. The slice takes the class
 * token from the residual stream: the last attention has no other query. */
static void timm(const char *name) {
  tt_arena *arena = tt_arena_create();
  bench t = load(name, 2, arena);
  run_forward(&t, true);
  const expected ops[] = {{TT_OP_LINEAR, 18},    {TT_OP_LAYERNORM, 9}, {TT_OP_ATTENTION, 4}, {TT_OP_GELU, 4},
                          {TT_OP_TRANSPOSE, -1}, {TT_OP_RESHAPE, -1},  {TT_OP_CONCAT, 1},    {TT_OP_EXPAND, -1},
                          {TT_OP_ADD, 9},        {TT_OP_SLICE, 1}};
  expect_ops(&t, ops, (int)(sizeof ops / sizeof *ops));
  assert_true(count_op(t.g, TT_OP_TRANSPOSE) <= 1);
  assert_int_equal(tt_nod(t.g, find_op(t.g, TT_OP_ATTENTION))->n_in, 1);
  bench_close(&t);
  tt_arena_destroy(arena);
}

static void timm_torchscript(void **state) {
  (void)state;
  timm("timm_vit_fmnist_ts17.onnx");
}

static void timm_dynamo(void **state) {
  (void)state;
  timm("timm_vit_fmnist_dy18.onnx");
}

/* q, k and v are linears of their own. */
static void hugging_face(void **state) {
  (void)state;
  tt_arena *arena = tt_arena_create();
  bench t = load("hf_vit_dy18.onnx", 2, arena);
  run_forward(&t, true);
  const expected ops[] = {{TT_OP_LINEAR, 26},    {TT_OP_LAYERNORM, 9}, {TT_OP_ATTENTION, 4}, {TT_OP_GELU, 4},
                          {TT_OP_TRANSPOSE, -1}, {TT_OP_RESHAPE, -1},  {TT_OP_CONCAT, 1},    {TT_OP_EXPAND, -1},
                          {TT_OP_ADD, 9},        {TT_OP_SLICE, 1}};
  expect_ops(&t, ops, (int)(sizeof ops / sizeof *ops));
  assert_true(count_op(t.g, TT_OP_TRANSPOSE) <= 1);
  bench_close(&t);
  tt_arena_destroy(arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(timm_torchscript),
      cmocka_unit_test(timm_dynamo),
      cmocka_unit_test(hugging_face),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
