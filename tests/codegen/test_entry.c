/* Entries as a whole: state that is updated in place, updates that must be copied into their var, results that are vars,
 * several nodes on one kernel; against the evaluator, step after step. */
#include <math.h>
#include <string.h>
#include "jit_case.h"

enum { R = 37, D = 29 };

typedef struct training {
  tt_module *module;
  tt_graph *g;
  tt_arena *arena;
  tt_diag diag;
} training;

static tt_type matrix(void) { return tt_type_make(TT_F32, 2, (int64_t[]){R, D}); }

static uint32_t add_var(training *t, const char *name, uint32_t *seed) {
  tt_type type = matrix();
  float *init = tt_arena_alloc(t->module->arena, tt_type_bytes(&type));
  for (int i = 0; i < R * D; i++) init[i] = (float)(jit_random(seed) % 2001) / 1000 - 1;
  return tt_module_add_var(t->module, (tt_var){.name = name, .type = type, .init = init, .copy_of = TT_NONE});
}

/* adamw over w, m, v in place; ema = 0.9 ema + 0.1 w, which an ordinary node computes and an update must copy. */
static void build(training *t) {
  uint32_t seed = 5;
  t->module = tt_module_create("test");
  t->g = tt_graph_create(t->module, "train");
  t->arena = tt_arena_create();
  tt_diag_init(&t->diag, stderr);
  static const char *const names[] = {"w", "m", "v", "ema"};
  tt_value in[8], ema;
  for (int i = 0; i < 4; i++) add_var(t, names[i], &seed);
  tt_graph *g = t->g;
  for (uint32_t i = 0; i < 3; i++) in[i] = tt_graph_var(g, i);
  ema = tt_graph_var(g, 3);
  tt_builder b = {.g = g, .diag = &t->diag, .at = TT_NONE};
  tt_value x = tt_graph_add_input(g, "x", matrix());
  in[1] = tt_build1(&b, TT_OP_ABS, in[1], 0, NULL); /* no longer the var: adamw writes beside it */
  in[2] = tt_build1(&b, TT_OP_ABS, in[2], 0, NULL);
  in[3] = tt_build1(&b, TT_OP_NEG, tt_build1(&b, TT_OP_NEG, x, 0, NULL), 0, NULL);
  const float scalars[4] = {0.5f, 0.01f, 0.1f, 0.2f};
  for (int i = 0; i < 4; i++) in[4 + i] = tt_graph_const_f32(g, scalars[i]);
  tt_attr a[3] = {tt_attr_float(TT_A_BETA1, 0.9), tt_attr_float(TT_A_BETA2, 0.99), tt_attr_float(TT_A_EPSILON, 1e-8)};
  tt_node n = tt_build(&b, TT_OP_ADAMW, 8, in, 3, a);
  tt_value w = tt_nod(g, n)->out[0];
  tt_value kept = tt_build2(&b, TT_OP_MUL, ema, tt_graph_const_f32(g, 0.9f), 0, NULL);
  tt_value added = tt_build2(&b, TT_OP_MUL, w, tt_graph_const_f32(g, 0.1f), 0, NULL);
  for (uint32_t i = 0; i < 3; i++) tt_graph_add_update(g, i, tt_nod(g, n)->out[i]);
  tt_graph_add_update(g, 3, tt_build2(&b, TT_OP_ADD, kept, added, 0, NULL));
  tt_graph_set_result(g, "before", in[0]);
  tt_graph_set_result(g, "after", w);
  tt_graph_set_result(g, "seven", tt_graph_const_f32(g, 7));
}

/* As plan_memory does: adamw's w lies in the var itself, everything else has a place of its own. */
static void plan(training *t) {
  place_values(t->g);
  for (uint32_t i = 0; i < 4; i++) tt_vec_push(&t->module->var_offset, i * 8192);
  t->module->vars_bytes = 4 * 8192;
  TT_FOR_NODES(t->g, n) {
    if (tt_nod(t->g, n)->op != TT_OP_ADAMW) continue;
    tt_value_data *w = tt_val(t->g, tt_nod(t->g, n)->out[0]);
    w->space = TT_SPACE_VARS;
    w->offset = 0;
  }
}

static void compare(const tt_tensor *got, const tt_tensor *want) {
  for (int64_t i = 0; i < tt_type_count(&want->type); i++)
    assert_true(fabs(got->d[i] - want->d[i]) <= 1e-5 * (1 + fabs(want->d[i])));
}

static void test_updates(void **state) {
  (void)state;
  training t;
  build(&t);
  plan(&t);
  const cg_target *target = cg_target_find("cpu", t.arena, &t.diag);
  cg_jit *jit = cg_jit_compile(t.g, target, &t.diag);
  assert_non_null(jit);
  assert_true(trt_threads_init(2, cg_jit_scratch_bytes(jit)));
  tt_tensor vars[2][4], results[2][3], x = tt_tensor_new(t.arena, matrix());
  for (uint32_t i = 0; i < 4; i++) vars[0][i] = vars[1][i] = tt_var_initial(t.arena, t.module, i);
  uint32_t seed = 9;
  for (int step = 0; step < 3; step++) {
    for (int i = 0; i < R * D; i++) x.d[i] = (double)(jit_random(&seed) % 1000) / 500 - 1;
    cg_jit_run(jit, &x, vars[0], results[0], t.arena);
    tt_eval_graph(t.g, &x, vars[1], results[1], false, t.arena);
    for (int i = 0; i < 3; i++) compare(&results[0][i], &results[1][i]);
    for (int i = 0; i < 4; i++) compare(&vars[0][i], &vars[1][i]);
  }
  cg_jit_destroy(jit);
  tt_module_destroy(t.module);
  tt_arena_destroy(t.arena);
}

/* An op that must have been folded or lowered is named, with its node. */
static void test_no_code(void **state) {
  (void)state;
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  tt_diag_init(&diag, NULL);
  tt_module *m = tt_module_create("test");
  tt_graph *g = tt_graph_create(m, "forward");
  tt_value x = tt_graph_add_input(g, "x", matrix());
  tt_builder b = {.g = g, .diag = &diag, .at = TT_NONE, .loc = {.file = "m.onnx", .node = "blocks.0/pow"}};
  tt_graph_set_result(g, "y", tt_build2(&b, TT_OP_POW, x, x, 0, NULL));
  place_values(g);
  assert_null(cg_jit_compile(g, cg_target_find("cpu", arena, &diag), &diag));
  assert_int_equal(diag.errors, 1);
  assert_non_null(strstr(diag.text, "m.onnx: node 'blocks.0/pow'"));
  assert_non_null(strstr(diag.text, "no generated code for 'pow'"));
  tt_diag_free(&diag);
  tt_module_destroy(m);
  tt_arena_destroy(arena);
}

/* A dot product more changes the code of a product, not that of a quantizer. */
static void test_same_code(void **state) {
  (void)state;
  tt_type packed = tt_type_mx(TT_E2M1, 40, 70), types[2] = {packed, packed}, plain = matrix();
  tt_attr q = tt_attr_qspec(TT_A_Q, (tt_qspec){.on = true, .format = TT_E2M1});
  for (int product = 0; product < 2; product++) {
    tt_diag diag;
    jit_case t = product ? jit_case_build(TT_OP_MX_GEMM, 2, types, 0, NULL, &diag)
                         : jit_case_build(TT_OP_MX_QUANTIZE, 1, &plain, 1, &q, &diag);
    const cg_target *with = cg_target_find("aarch64", t.arena, &diag), *without = cg_target_find("aarch64:v8", t.arena, &diag);
    assert_true(with && without);
    assert_true(cg_same_code(t.g, with, with, &diag));
    assert_int_equal(cg_same_code(t.g, with, without, &diag), !product);
    assert_int_equal(diag.errors, 0);
    jit_case_close(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_updates), cmocka_unit_test(test_no_code),
                                     cmocka_unit_test(test_same_code)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
