/* The evaluator's driver: variables and their updates, rounding, conversions, constant folding. */
#include "eval_case.h"

static tt_arena *arena;
static tt_module *module;
static tt_graph *g;
static tt_diag diag;
static tt_builder b;

static int setup(void **state) {
  (void)state;
  arena = tt_arena_create();
  module = tt_module_create("test");
  g = tt_graph_create(module, "train");
  tt_diag_init(&diag, NULL);
  b = (tt_builder){.g = g, .diag = &diag, .at = TT_NONE};
  return 0;
}

static int teardown(void **state) {
  (void)state;
  tt_diag_free(&diag);
  tt_module_destroy(module);
  tt_arena_destroy(arena);
  return 0;
}

static uint32_t add_var(const char *name, const float *init, uint32_t copy_of) {
  tt_type type = tt_type_make(TT_F32, DIMS(2));
  return tt_module_add_var(module, (tt_var){.name = name, .type = type, .init = init, .copy_of = copy_of});
}

static void updates_see_old_values_and_land_in_the_callers_storage(void **state) {
  (void)state;
  static const float init[2] = {1, 2};
  uint32_t v[3] = {add_var("v", init, TT_NONE), add_var("w", NULL, 0), add_var("z", NULL, TT_NONE)};
  tt_value x = tt_graph_add_input(g, "x", tt_type_make(TT_F32, DIMS(2)));
  tt_value sum = tt_build2(&b, TT_OP_ADD, tt_graph_var(g, v[0]), x, 0, NULL);
  tt_graph_set_result(g, "before", tt_graph_var(g, v[0]));
  tt_graph_add_update(g, v[0], sum);
  tt_graph_add_update(g, v[1], tt_graph_var(g, v[2])); /* w and z change places */
  tt_graph_add_update(g, v[2], tt_graph_var(g, v[1]));
  tt_tensor in = make(arena, TT_F32, DIMS(2), VALUES(10, 20)), vars[3], result;
  for (uint32_t i = 0; i < 3; i++) vars[i] = tt_var_initial(arena, module, v[i]);
  expect_values(&vars[1], DIMS(2), VALUES(1, 2), 0);
  for (int pass = 0; pass < 2; pass++) {
    tt_arena *scratch = tt_arena_create();
    tt_eval_graph(g, &in, vars, &result, false, scratch);
    expect_values(&result, DIMS(2), pass ? VALUES(11, 22) : VALUES(1, 2), 0);
    tt_arena_destroy(scratch);
    expect_values(&vars[1], DIMS(2), pass ? VALUES(1, 2) : VALUES(0, 0), 0);
    expect_values(&vars[2], DIMS(2), pass ? VALUES(0, 0) : VALUES(1, 2), 0);
  }
  expect_values(&vars[0], DIMS(2), VALUES(21, 42), 0);
  tt_eval_graph(g, &in, NULL, &result, false, arena); /* initial values, nothing kept */
  expect_values(&result, DIMS(2), VALUES(1, 2), 0);
}

static void float_results_are_rounded_on_request(void **state) {
  (void)state;
  tt_value x = tt_graph_add_input(g, "x", tt_type_scalar(TT_F32));
  tt_graph_set_result(g, "y", tt_build2(&b, TT_OP_DIV, x, tt_graph_const_f32(g, 3), 0, NULL));
  tt_tensor in = make(arena, TT_F32, SCALAR, VALUES(1)), y;
  tt_eval_graph(g, &in, NULL, &y, false, arena);
  expect_values(&y, SCALAR, VALUES(1.0 / 3), 0);
  tt_eval_graph(g, &in, NULL, &y, true, arena);
  expect_values(&y, SCALAR, VALUES((double)(1.0f / 3)), 0);
}

static void bytes_come_back(void **state) {
  (void)state;
  static const int64_t longs[5] = {INT64_MAX, INT64_MIN, -3, 0, 9007199254740991};
  int64_t longs_back[5];
  tt_tensor t = tt_tensor_from_bytes(arena, tt_type_make(TT_I64, DIMS(5)), longs);
  tt_tensor_to_bytes(&t, longs_back);
  assert_memory_equal(longs, longs_back, sizeof longs);
  static const float floats[3] = {0.1f, -0.0f, 0x1p-149f};
  float floats_back[3];
  t = tt_tensor_from_bytes(arena, tt_type_make(TT_F32, DIMS(3)), floats);
  tt_tensor_to_bytes(&t, floats_back);
  assert_memory_equal(floats, floats_back, sizeof floats);
  tt_type mx = tt_type_mx(TT_E2M1, 2, 32);
  uint8_t bytes[34], bytes_back[34];
  for (int i = 0; i < 34; i++) bytes[i] = (uint8_t)(7 * i);
  t = tt_tensor_from_bytes(arena, mx, bytes);
  tt_tensor_to_bytes(&t, bytes_back);
  assert_memory_equal(bytes, bytes_back, sizeof bytes);
}

static tt_value longs(const int64_t *v, int64_t n) { return tt_graph_const(g, tt_type_make(TT_I64, 1, &n), v); }

static int fold_all(size_t max_bytes) {
  int folded = 0;
  TT_FOR_NODES(g, n) folded += tt_fold_node(g, n, max_bytes);
  return folded;
}

/* The chain that exporters write for x.reshape(x.shape[0] / 2, -1). */
static void shape_chains_fold(void **state) {
  (void)state;
  tt_value x = tt_graph_add_input(g, "x", tt_type_make(TT_F32, DIMS(6, 4)));
  tt_value shape = tt_build1(&b, TT_OP_SHAPE_OF, x, 0, NULL);
  tt_value first = tt_build2(&b, TT_OP_GATHER, shape, longs((int64_t[]){0}, 1), 0, NULL);
  tt_value half = tt_build2(&b, TT_OP_DIV, first, longs((int64_t[]){2}, 1), 0, NULL);
  tt_value target = tt_build2(&b, TT_OP_CONCAT, half, longs((int64_t[]){INT64_MAX}, 1), 0, NULL);
  tt_graph_set_result(g, "target", target);
  tt_graph_set_result(g, "y", tt_build2(&b, TT_OP_ADD, x, x, 0, NULL));
  assert_int_equal(fold_all(64), 4);
  const int64_t *folded = tt_const_data(g, tt_graph_result(g, "target"));
  assert_non_null(folded);
  assert_true(folded[0] == 3 && folded[1] == INT64_MAX);
  assert_int_equal(tt_nod(g, g->first)->op, TT_OP_ADD);
  assert_int_equal(g->first, g->last);
}

static void some_nodes_do_not_fold(void **state) {
  (void)state;
  tt_value two = longs((int64_t[]){1, 2}, 2),
           big = tt_build1(&b, TT_OP_EXPAND, two, 1, (tt_attr[]){INTS(TT_A_SHAPE, 9, 2)});
  tt_graph_set_result(g, "big", big);
  assert_int_equal(fold_all(9 * 16 - 1), 0);
  assert_int_equal(fold_all(9 * 16), 1);
  tt_value minus = tt_build1(&b, TT_OP_NEG, longs((int64_t[]){9}, 1), 0, NULL); /* -9, known only after folding */
  tt_graph_set_result(g, "outside", tt_build2(&b, TT_OP_GATHER, two, minus, 0, NULL));
  assert_int_equal(fold_all(1024), 1);
  tt_attr q = tt_attr_qspec(TT_A_Q, (tt_qspec){true, TT_E2M1, TT_SCALE_CEIL, TT_NEAREST, TT_DIRECT});
  float row[4] = {1, 2, 3, 4};
  tt_value x = tt_graph_const(g, tt_type_make(TT_F32, DIMS(1, 4)), row);
  tt_graph_set_result(g, "mx", tt_build1(&b, TT_OP_MX_QUANTIZE, x, 1, &q));
  assert_int_equal(fold_all(1024), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(updates_see_old_values_and_land_in_the_callers_storage, setup, teardown),
      cmocka_unit_test_setup_teardown(float_results_are_rounded_on_request, setup, teardown),
      cmocka_unit_test_setup_teardown(bytes_come_back, setup, teardown),
      cmocka_unit_test_setup_teardown(shape_chains_fold, setup, teardown),
      cmocka_unit_test_setup_teardown(some_nodes_do_not_fold, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
