/* Oscillation control in whole training graphs, run by the evaluator: what each step does to weights and state is compared
 * with the methods written out here. */
#include "compiler/ir/mx.h"
#include "tests/passes/tiny.h"

static void use_recipe(tiny *t, const char *name, int n, const char *const *sets) {
  tt_recipe *r = tt_recipe_load(name, TETRAC_SOURCE_DIR "/passes/recipes", n, sets, t->arena, &t->diag);
  if (!r) fail_msg("%s", t->diag.text);
  t->recipe = *r;
}

/* The tiny ViT under a recipe as a graph that trains. */
static tt_graph *train_graph(tiny *t, const char *name, int n, const char *const *sets) {
  static const char *const passes[] = {"lower_mx", "add_loss",       "autodiff", "add_dampen", "add_optimizer",
                                       "opt_fold", "lower_mx_mixed", "opt_cse",  "opt_dce"};
  tiny_init(t);
  use_recipe(t, name, n, sets);
  tiny_vit(t);
  for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) tiny_pass(t, t->g, passes[i]);
  return t->g;
}

static tt_tensor *inputs_at(tiny *t, const tt_graph *g, int step) {
  tt_tensor *in = tiny_inputs(t, g);
  for (size_t i = 0; i < g->inputs.count; i++)
    if (strcmp(tt_val(g, g->inputs.data[i])->name, "rng") == 0) in[i].d[1] = step;
  return in;
}

static tt_tensor *var(tiny *t, tt_tensor *vars, const char *name) {
  uint32_t index = tt_module_find_var(t->m, name);
  if (index == TT_NONE) fail_msg("no var '%s'", name);
  return &vars[index];
}

static tt_tensor copy(tiny *t, const tt_tensor *x) {
  tt_tensor y = tt_tensor_new(t->arena, x->type);
  memcpy(y.d, x->d, sizeof *y.d * (size_t)tt_type_count(&x->type));
  return y;
}

static const char *const weights[] = {"qkv.w", "proj.w", "fc1.w", "fc2.w"};
enum { N_WEIGHTS = 4 };

/* Q2(w), from w and its average as float32. */
static float *rounded(tiny *t, const tt_tensor *w, const tt_tensor *ema) {
  int64_t n = tt_type_count(&w->type), cols = w->type.dim[1];
  float *x = TT_NEW_N(t->arena, float, n), *e = TT_NEW_N(t->arena, float, n), *out = TT_NEW_N(t->arena, float, n);
  for (int64_t i = 0; i < n; i++) x[i] = (float)w->d[i];
  for (int64_t i = 0; ema && i < n; i++) e[i] = (float)ema->d[i];
  tt_type type = tt_type_mx(TT_E2M1, w->type.dim[0], cols);
  uint8_t *mx = tt_arena_alloc(t->arena, tt_type_bytes(&type));
  tt_qspec q = {.on = true, .format = TT_E2M1, .scale = TT_SCALE_CEIL, .rounding = ema ? TT_EMA : TT_NEAREST};
  tt_mx_quantize(q, w->type.dim[0], cols, x, cols, 1, ema ? e : NULL, 0, mx);
  tt_mx_dequantize(&type, mx, out);
  return out;
}

static void ema_follows_the_weights(void **state) {
  (void)state;
  tiny t;
  tt_graph *g =
      train_graph(&t, "tetrajet-qema", 2, (const char *[]){"oscillation.ema-beta=0.75", "oscillation.ema-from=0"});
  assert_int_equal(tiny_count(g, TT_OP_ADAMW_EMA), N_WEIGHTS);
  tt_tensor *vars = tiny_vars(&t);
  for (int i = 0; i < N_WEIGHTS; i++) {
    tt_tensor *w = var(&t, vars, weights[i]), *e = var(&t, vars, tt_arena_printf(t.arena, "ema:%s", weights[i]));
    assert_memory_equal(w->d, e->d, sizeof *w->d * (size_t)tt_type_count(&w->type)); // it starts as w
  }
  for (int step = 0; step < 3; step++) {
    tt_tensor before[N_WEIGHTS];
    for (int i = 0; i < N_WEIGHTS; i++) before[i] = copy(&t, var(&t, vars, tt_arena_printf(t.arena, "ema:%s", weights[i])));
    tiny_eval(&t, g, inputs_at(&t, g, step), vars);
    for (int i = 0; i < N_WEIGHTS; i++) {
      tt_tensor *w = var(&t, vars, weights[i]), *e = var(&t, vars, tt_arena_printf(t.arena, "ema:%s", weights[i]));
      for (int64_t k = 0; k < tt_type_count(&w->type); k++)
        assert_true(fabs(e->d[k] - (0.75 * before[i].d[k] + 0.25 * w->d[k])) < 1e-12);
    }
  }
  tiny_free(&t);
}

/* Evaluation and `grad` are clones of the same forward: the same average, the same logits. */
static void every_clone_reads_the_average(void **state) {
  (void)state;
  static const char *const names[] = {"train", "grad", "eval"};
  tiny t;
  tiny_init(&t);
  use_recipe(&t, "tetrajet-qema", 0, NULL);
  tiny_vit(&t);
  tiny_pass(&t, t.g, "lower_mx");
  tt_graph *clone[3];
  for (int i = 0; i < 3; i++) {
    clone[i] = tt_graph_clone(t.g, names[i]);
    tiny_pass(&t, clone[i], "add_loss");
    if (i < 2) tiny_pass(&t, clone[i], "autodiff");
    if (i < 1) tiny_pass(&t, clone[i], "add_optimizer");
    tiny_pass(&t, clone[i], "lower_mx_mixed");
  }
  for (int step = 0; step <= 10; step += 10) {
    const tt_tensor *logits[3];
    for (int i = 0; i < 3; i++) {
      tt_tensor *vars = tiny_vars(&t), *e = var(&t, vars, "ema:fc1.w");
      for (int64_t k = 0; k < tt_type_count(&e->type); k++) e->d[k] = -e->d[k];
      logits[i] = tiny_result(clone[i], tiny_eval(&t, clone[i], inputs_at(&t, clone[i], step), vars), "logits");
    }
    for (int i = 1; i < 3; i++)
      assert_memory_equal(logits[0]->d, logits[i]->d, sizeof(double) * (size_t)tt_type_count(&logits[0]->type));
  }
  tiny_free(&t);
}

/* Before step `ema-from` the graph computes what tetrajet computes, from it on something else. */
static void ema_rounding_begins_at_its_step(void **state) {
  (void)state;
  tiny t, plain;
  tt_graph *g = train_graph(&t, "tetrajet-qema", 0, NULL), *other = train_graph(&plain, "tetrajet", 0, NULL);
  tt_tensor *vars = tiny_vars(&t), *their = tiny_vars(&plain);
  for (int i = 0; i < N_WEIGHTS; i++) { // far from the weights: each element turned round
    tt_tensor *e = var(&t, vars, tt_arena_printf(t.arena, "ema:%s", weights[i]));
    for (int64_t k = 0; k < tt_type_count(&e->type); k++) e->d[k] = -e->d[k];
  }
  for (int step = 9; step <= 10; step++) {
    tt_tensor *mine = TT_NEW_N(t.arena, tt_tensor, t.m->vars.count),
              *theirs = TT_NEW_N(t.arena, tt_tensor, plain.m->vars.count);
    for (size_t i = 0; i < t.m->vars.count; i++) mine[i] = copy(&t, &vars[i]);
    for (size_t i = 0; i < plain.m->vars.count; i++) theirs[i] = copy(&plain, &their[i]);
    const tt_tensor *a = tiny_result(g, tiny_eval(&t, g, inputs_at(&t, g, step), mine), "logits");
    const tt_tensor *b = tiny_result(other, tiny_eval(&plain, other, inputs_at(&plain, other, step), theirs), "logits");
    bool same = memcmp(a->d, b->d, sizeof *a->d * (size_t)tt_type_count(&a->type)) == 0;
    assert_int_equal(same, step == 9);
  }
  tiny_free(&t);
  tiny_free(&plain);
}

/* A weight that is no variable has no average. */
static void ema_wants_variables(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  use_recipe(&t, "tetrajet-qema", 1, (const char *[]){"layers.select=all-linears"});
  tt_value x = tt_graph_add_input(t.g, "images", tt_type_make(TT_F32, SHAPE(2, 8)));
  tt_value w = tiny_build(&t, TT_OP_NEG, IN(tiny_param(&t, "w", 0, 1, SHAPE(3, 8))), 0, NULL);
  tt_graph_set_result(t.g, "logits", tiny_build(&t, TT_OP_LINEAR, IN(x, w), 0, NULL));
  assert_int_equal(tiny_run(&t, t.g, tt_pass_find("lower_mx")->run), TT_PASS_FAILED);
  assert_non_null(strstr(t.diag.text, "q2.rounding = ema keeps a moving average of each weight"));
  tiny_free(&t);
}

static double distance(tiny *t, tt_tensor *vars) {
  double sum = 0;
  for (int i = 0; i < N_WEIGHTS; i++) {
    const tt_tensor *w = var(t, vars, weights[i]);
    const float *q = rounded(t, w, NULL);
    for (int64_t k = 0; k < tt_type_count(&w->type); k++) sum += (w->d[k] - (double)q[k]) * (w->d[k] - (double)q[k]);
  }
  return sum;
}

/* Gradients and loss by the formula, against the same graph without the penalty. */
static void dampening_adds_its_gradient(void **state) {
  (void)state;
  const double lambda = 0.25;
  tiny t[2];
  const tt_tensor *results[2];
  tt_tensor *vars[2];
  for (int i = 0; i < 2; i++) {
    static const char *const passes[] = {"lower_mx", "add_loss", "autodiff", "add_dampen"};
    tiny_init(&t[i]);
    use_recipe(&t[i], i ? "tetrajet-dampen" : "tetrajet", i, (const char *[]){"oscillation.dampen-lambda=0.25"});
    tiny_vit(&t[i]);
    for (int p = 0; p < 4; p++) tiny_pass(&t[i], t[i].g, passes[p]);
    vars[i] = tiny_vars(&t[i]);
    results[i] = tiny_eval(&t[i], t[i].g, inputs_at(&t[i], t[i].g, 0), vars[i]);
  }
  double more = tiny_result(t[1].g, results[1], "loss")->d[0] - tiny_result(t[0].g, results[0], "loss")->d[0];
  assert_true(fabs(more - lambda * distance(&t[0], vars[0])) < 1e-9);
  for (int i = 0; i < N_WEIGHTS; i++) {
    const char *name = tt_arena_printf(t[0].arena, "grad:%s", weights[i]);
    const tt_tensor *plain = tiny_result(t[0].g, results[0], name), *g = tiny_result(t[1].g, results[1], name);
    const tt_tensor *w = var(&t[0], vars[0], weights[i]);
    const float *q = rounded(&t[0], w, NULL);
    for (int64_t k = 0; k < tt_type_count(&w->type); k++)
      assert_true(fabs(g->d[k] - plain->d[k] - 2 * lambda * (w->d[k] - (double)q[k])) < 1e-9);
  }
  const tt_tensor *a = tiny_result(t[0].g, results[0], "grad:head.w"), *b = tiny_result(t[1].g, results[1], "grad:head.w");
  assert_memory_equal(a->d, b->d, sizeof *a->d * (size_t)tt_type_count(&a->type));
  for (int i = 0; i < 2; i++) tiny_free(&t[i]);
}

/* One element as Nagel et al. describe it. */
typedef struct element {
  double last, mean, rate;
  int direction;
  bool started, frozen;
} element;

static void observe(element *e, double q, double threshold, double momentum) {
  if (e->frozen) return;
  int direction = !e->started || q == e->last ? 0 : q > e->last ? 1 : -1;
  bool turned = direction && e->direction && direction != e->direction;
  e->rate += momentum * ((turned ? 1 : 0) - e->rate);
  e->mean = e->started ? e->mean + momentum * (q - e->mean) : q;
  if (direction) e->direction = direction;
  e->last = q;
  e->started = true;
  e->frozen = e->rate > threshold;
}

/* Fifty steps at a rate of learning that makes weights jump about. */
static void freezing_holds_what_oscillates(void **state) {
  (void)state;
  const double threshold = 0.15, momentum = 0.1;
  tiny t;
  tt_graph *g = train_graph(&t, "tetrajet-freeze", 2,
                            (const char *[]){"oscillation.freeze-threshold=0.15", "oscillation.freeze-momentum=0.1"});
  assert_int_equal(tiny_count(g, TT_OP_FREEZE), N_WEIGHTS);
  tt_tensor *vars = tiny_vars(&t);
  element *e[N_WEIGHTS];
  for (int i = 0; i < N_WEIGHTS; i++) e[i] = TT_NEW_N(t.arena, element, tt_type_count(&var(&t, vars, weights[i])->type));
  int frozen = 0, free_ones = 0;
  for (int step = 0; step < 50; step++) {
    const float *q[N_WEIGHTS];
    for (int i = 0; i < N_WEIGHTS; i++) q[i] = rounded(&t, var(&t, vars, weights[i]), NULL);
    tt_tensor *in = inputs_at(&t, g, step);
    for (size_t i = 0; i < g->inputs.count; i++)
      if (strcmp(tt_val(g, g->inputs.data[i])->name, "lr") == 0) in[i].d[0] = step % 2 ? -0.02 : 0.02;
    tiny_eval(&t, g, in, vars);
    frozen = free_ones = 0;
    for (int i = 0; i < N_WEIGHTS; i++) {
      const tt_tensor *w = var(&t, vars, weights[i]);
      const tt_tensor *mark = var(&t, vars, tt_arena_printf(t.arena, "freeze-mark:%s", weights[i]));
      for (int64_t k = 0; k < tt_type_count(&w->type); k++) {
        observe(&e[i][k], (double)q[i][k], threshold, momentum);
        assert_int_equal(mark->d[k] == 4, e[i][k].frozen);
        if (e[i][k].frozen) assert_true(fabs(w->d[k] - e[i][k].mean) < 1e-9);
        *(e[i][k].frozen ? &frozen : &free_ones) += 1;
      }
    }
  }
  assert_true(frozen > 100 && free_ones > 100);
  tiny_free(&t);
}

/* Blocks of two branches each, four of them: which linears stay float32. */
static void ends_stay_float(void **state) {
  (void)state;
  static const struct {
    const char *sets[3];
    int n, gemms, warnings;
  } cases[] = {{{"layers.first-blocks=1"}, 1, 12, 0},
               {{"layers.last-blocks=2"}, 1, 8, 0},
               {{"layers.first-blocks=1", "layers.last-blocks=1"}, 2, 8, 0},
               {{"layers.first-blocks=2", "layers.last-blocks=2"}, 2, 0, 2},
               {{"layers.select=all-linears", "layers.first-blocks=3"}, 2, 6, 0},
               {{"layers.select=pattern", "layers.pattern=*.fc?", "layers.first-blocks=1"}, 3, 6, 0},
               {{"layers.select=pattern", "layers.pattern=nosuch, 0.fc1"}, 2, 1, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tiny t;
    tiny_init(&t);
    use_recipe(&t, "tetrajet", cases[i].n, cases[i].sets);
    tt_value x = tiny_linear(&t, tt_graph_add_input(t.g, "images", tt_type_make(TT_F32, SHAPE(2, 3, 8))), "patch", "pb", 8);
    tt_attr heads[] = {tt_attr_int(TT_A_HEADS, 2), tt_attr_float(TT_A_SCALE, 0.5)};
    for (int block = 0; block < 4; block++) {
#define NAME(what) tt_arena_printf(t.m->arena, "%d." what, block)
      tt_value h = tiny_build(&t, TT_OP_ATTENTION, IN(tiny_linear(&t, x, NAME("qkv"), NAME("qkvb"), 24)), 2, heads);
      x = tiny_build(&t, TT_OP_ADD, IN(x, tiny_linear(&t, h, NAME("proj"), NAME("projb"), 8)), 0, NULL);
      h = tiny_build(&t, TT_OP_GELU, IN(tiny_linear(&t, x, NAME("fc1"), NAME("fc1b"), 16)), 0, NULL);
      x = tiny_build(&t, TT_OP_ADD, IN(x, tiny_linear(&t, h, NAME("fc2"), NAME("fc2b"), 8)), 0, NULL);
    }
    tt_graph_set_result(t.g, "logits", tiny_linear(&t, x, "head", "hb", 3));
    tiny_pass(&t, t.g, "lower_mx");
    assert_int_equal(tiny_count(t.g, TT_OP_MX_GEMM), cases[i].gemms);
    assert_int_equal(t.diag.warnings, cases[i].warnings);
    tiny_free(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(ema_follows_the_weights),
                                     cmocka_unit_test(ema_rounding_begins_at_its_step),
                                     cmocka_unit_test(every_clone_reads_the_average),
                                     cmocka_unit_test(ema_wants_variables),
                                     cmocka_unit_test(dampening_adds_its_gradient),
                                     cmocka_unit_test(freezing_holds_what_oscillates),
                                     cmocka_unit_test(ends_stay_float)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
