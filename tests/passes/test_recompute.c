/* Recomputation: a training step has the same bits under every setting of memory.recompute, and a lower peak under each that
 * makes more again. */
#include "tests/passes/tiny.h"

enum { DEPTH = 4, LEVELS = TT_RECOMPUTE_ALL + 1 };

/* Residual MLP blocks on images [128,32], as the second half of a transformer's. */
static void mlp_blocks(tiny *t) {
  tt_value x = tt_graph_add_input(t->g, "images", tt_type_make(TT_F32, SHAPE(128, 32)));
  for (int i = 0; i < DEPTH; i++) {
    const char *name[6];
    for (int k = 0; k < 6; k++) name[k] = tt_arena_printf(t->m->arena, "block%d.%d", i, k);
    tt_value h = tiny_linear(t, tiny_norm(t, x, name[0], name[1]), name[2], name[3], 128);
    h = tiny_linear(t, tiny_build(t, TT_OP_GELU, IN(h), 0, NULL), name[4], name[5], 32);
    x = tiny_build(t, TT_OP_ADD, IN(x, h), 0, NULL);
  }
  tt_graph_set_result(t->g, "logits", tiny_linear(t, x, "head.w", "head.b", 3));
}

typedef struct step {
  uint64_t arena_bytes;
  int products;
  tt_tensor *vars, *results;
  size_t n_vars, n_results;
} step;

static void run_pipeline(tiny *t, tt_graph *g, const char *name) {
  for (int i = 0; i < tt_pipeline_count; i++) {
    if (strcmp(tt_pipelines[i].name, name) != 0) continue;
    for (int k = 0; k < tt_pipelines[i].count; k++) tiny_pass(t, g, tt_pipelines[i].passes[k]);
    return;
  }
  fail_msg("no pipeline %s", name);
}

/* One step; what it leaves is in t's arena. */
static step train(tiny *t, const char *recipe, tt_recompute_level level, double goal) {
  tiny_init(t);
  const tt_recipe *r = tt_recipe_load(recipe, TETRAC_SOURCE_DIR "/passes/recipes", 0, NULL, t->arena, &t->diag);
  if (!r) fail_msg("%s", t->diag.text);
  t->recipe = *r;
  t->recipe.recompute = level;
  t->recipe.memory_goal = goal;
  mlp_blocks(t);
  tiny_pass(t, t->g, "lower_mx");
  tt_graph *g = tt_graph_clone(t->g, "train");
  run_pipeline(t, g, "train");
  if (!tt_plan_check(g, &t->diag)) fail_msg("%s", t->diag.text);
  step s = {.arena_bytes = g->arena_bytes, .n_vars = t->m->vars.count, .n_results = g->results.count};
  s.products = tiny_count(g, TT_OP_MX_GEMM) + tiny_count(g, TT_OP_LINEAR) + tiny_count(g, TT_OP_MATMUL);
  s.vars = tiny_vars(t);
  s.results = tiny_eval(t, g, tiny_inputs(t, g), s.vars);
  return s;
}

static void same_bits(const tt_tensor *a, const tt_tensor *b, size_t n) {
  for (size_t i = 0; i < n; i++) {
    assert_true(tt_type_equal(&a[i].type, &b[i].type));
    assert_memory_equal(a[i].d, b[i].d, sizeof *a[i].d * (size_t)tt_type_count(&a[i].type));
  }
}

static void check_recipe(const char *recipe, const bool falls[LEVELS]) {
  tiny t[LEVELS];
  step s[LEVELS];
  for (int i = 0; i < LEVELS; i++) {
    s[i] = train(&t[i], recipe, (tt_recompute_level)i, 0);
    same_bits(s[0].vars, s[i].vars, s[0].n_vars);
    same_bits(s[0].results, s[i].results, s[0].n_results);
    if (i == 0) continue;
    assert_true(s[i].arena_bytes <= s[i - 1].arena_bytes);
    if (falls[i]) assert_true(s[i].arena_bytes < s[i - 1].arena_bytes);
    assert_true((s[i].products > s[0].products) == (i >= TT_RECOMPUTE_MOST));
  }
  for (int i = 0; i < LEVELS; i++) tiny_free(&t[i]);
}

/* The 4-bit operands are what the backward keeps, so outputs of norms and activations are not in memory anyway. */
static void four_bits(void **state) {
  (void)state;
  check_recipe("tetrajet", (bool[LEVELS]){[TT_RECOMPUTE_MOST] = true});
}

/* Where gradients are quantized from the latent tensors these are kept. */
static void latent_sources(void **state) {
  (void)state;
  check_recipe("microscaling", (bool[LEVELS]){[TT_RECOMPUTE_CHEAP] = true, [TT_RECOMPUTE_MOST] = true});
}

static void float32(void **state) {
  (void)state;
  check_recipe("fp32", (bool[LEVELS]){[TT_RECOMPUTE_CHEAP] = true, [TT_RECOMPUTE_MOST] = true});
}

/* A goal between everything kept and as little as can be is reached with part of the products; one of 1 is there already. */
static void goals(void **state) {
  (void)state;
  enum { GOALS = 3 };
  static const double goal[GOALS] = {1, 0.8, 0};
  tiny t[GOALS];
  step s[GOALS];
  for (int i = 0; i < GOALS; i++) {
    s[i] = train(&t[i], "tetrajet", TT_RECOMPUTE_ALL, goal[i]);
    same_bits(s[0].vars, s[i].vars, s[0].n_vars);
    same_bits(s[0].results, s[i].results, s[0].n_results);
    if (i == 0) continue;
    assert_true(s[i].arena_bytes < s[i - 1].arena_bytes);
    assert_true(s[i].products > s[i - 1].products);
  }
  for (int i = 0; i < GOALS; i++) tiny_free(&t[i]);
}

/* Matrices quantized from float values, in nodes of their own or in fused ones. */
static int quantized(const tt_graph *g) {
  int n = 0;
  TT_FOR_NODES(g, node) {
    const tt_node_data *d = tt_nod(g, node);
    for (int i = 0; i < d->n_out; i++)
      n += tt_typ(g, d->out[i])->dtype == TT_MX && tt_typ(g, d->in[0])->dtype == TT_F32;
  }
  return n;
}

/* A draw is never made twice: its copy would need the same tensor id. */
static void draws_are_kept(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    tiny t;
    tiny_init(&t);
    const char *const sets[] = {"q1.rounding=stochastic", "q6.source=direct", "memory.recompute=all"};
    const tt_recipe *r = tt_recipe_load("tetrajet", TETRAC_SOURCE_DIR "/passes/recipes", 3, sets, t.arena, &t.diag);
    if (!r) fail_msg("%s", t.diag.text);
    t.recipe = *r;
    if (i == 0) t.recipe.recompute = TT_RECOMPUTE_NONE;
    mlp_blocks(&t);
    tiny_pass(&t, t.g, "lower_mx");
    run_pipeline(&t, t.g, "train");
    assert_int_equal(quantized(t.g), 8 * DEPTH - 2 * DEPTH + 2 * DEPTH + 2 * DEPTH);
    tiny_free(&t);
  }
}

/* A value that lies idle at the peak, made by sums of a value with itself: as many ways up as 2^60. */
static void doublings(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  t.recipe.recompute = TT_RECOMPUTE_ALL;
  tt_value x = tt_graph_add_input(t.g, "images", tt_type_make(TT_F32, SHAPE(64, 64))), v = x;
  for (int i = 0; i < 60; i++) v = tiny_build(&t, TT_OP_ADD, IN(v, v), 0, NULL);
  const tt_attr sum[] = {tt_attr_ints(t.g, TT_A_AXES, 2, (int64_t[]){0, 1}), tt_attr_int(TT_A_KEEPDIMS, 0)};
  tt_graph_set_result(t.g, "loss", tiny_build(&t, TT_OP_REDUCE_SUM, IN(v), 2, sum));
  tt_value a = tiny_build(&t, TT_OP_EXP, IN(x), 0, NULL), b = tiny_build(&t, TT_OP_NEG, IN(a), 0, NULL);
  tt_value c = tiny_build(&t, TT_OP_MUL, IN(a, b), 0, NULL);
  tt_graph_set_result(t.g, "g", tiny_build(&t, TT_OP_MUL, IN(c, v), 0, NULL));
  assert_int_equal(tiny_run(&t, t.g, tt_pass_find("recompute")->run), TT_PASS_UNCHANGED);
  tiny_free(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(four_bits),      cmocka_unit_test(latent_sources),
                                     cmocka_unit_test(float32),        cmocka_unit_test(goals),
                                     cmocka_unit_test(draws_are_kept), cmocka_unit_test(doublings)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
