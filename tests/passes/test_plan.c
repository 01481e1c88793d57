/* The memory planner: no two live values share a byte, on random graphs and on a training step. */
#include "tests/passes/tiny.h"

static tt_value pick(tiny *t, const tt_value *values, size_t n) {
  double x = (tiny_random(t) + 1) / 2;
  return values[(size_t)(x * (double)n) % n];
}

/* Random nodes over values of a few sizes: elementwise with one operand and two, broadcast, aliases of aliases, several
 * outputs, shared and unused results. */
static void random_graph(tiny *t, uint32_t seed) {
  enum { MOST = 80 };
  tt_value values[3 * MOST];
  size_t n = 0;
  t->state = seed;
  values[n++] = tt_graph_add_input(t->g, "images", tt_type_make(TT_F32, SHAPE(3, 40)));
  values[n++] = tiny_param(t, "p", 0, 1, SHAPE(3, 40));
  values[n++] = tt_graph_const(t->g, *tt_typ(t->g, values[0]), TT_NEW_N(t->arena, float, 120));
  tt_value row = tiny_build(t, TT_OP_EXP, IN(tt_graph_add_input(t->g, "row", tt_type_make(TT_F32, SHAPE(40)))), 0, NULL);
  int nodes = 10 + (int)(seed % MOST) * 2 / 3;
  for (int i = 0; i < nodes; i++) {
    tt_value x = pick(t, values, n);
    tt_type type = *tt_typ(t->g, x);
    tt_attr axis = tt_attr_int(TT_A_AXIS, 0), eps = tt_attr_float(TT_A_EPSILON, 1e-6);
    tt_attr flat = tt_attr_ints(t->g, TT_A_SHAPE, SHAPE(tt_type_count(&type) / 40, 40));
    double what = tiny_random(t);
    if (what < -0.5)
      values[n++] = tiny_build(t, TT_OP_RESHAPE, IN(x), 1, &flat);
    else if (what < -0.2 && type.dim[0] < 50)
      values[n++] = tiny_build(t, TT_OP_CONCAT, IN(x, pick(t, values, n)), 1, &axis);
    else if (what < 0.1) {
      float one[40] = {0};
      tt_value v = tt_graph_const(t->g, tt_type_make(TT_F32, SHAPE(40)), one);
      tt_node norm = tt_build(&t->b, TT_OP_LAYERNORM, 3, (tt_value[]){x, v, v}, 1, &eps);
      values[n++] = tt_nod(t->g, norm)->out[0];
    } else if (what < 0.5) {
      tt_value y = pick(t, values, n);
      bool fits = tt_type_equal(&type, tt_typ(t->g, y));
      values[n++] = tiny_build(t, TT_OP_ADD, IN(fits ? y : row, x), 0, NULL);
    } else
      values[n++] = tiny_build(t, TT_OP_EXP, IN(x), 0, NULL);
  }
  tt_graph_set_result(t->g, "a", values[n - 1]);
  tt_graph_set_result(t->g, "b", pick(t, values, n));
  tt_graph_set_result(t->g, "c", pick(t, values, n));
}

static void random_graphs_never_overlap(void **state) {
  (void)state;
  for (uint32_t seed = 1; seed <= 300; seed++) {
    tiny t;
    tiny_init(&t);
    random_graph(&t, seed * 2654435761u);
    tiny_pass(&t, t.g, "plan_memory");
    if (!tt_plan_check(t.g, &t.diag)) fail_msg("seed %u: %s", seed, t.diag.text);
    assert_true(t.g->arena_bytes <= tt_plan_unshared_bytes(t.g) && t.g->arena_bytes >= tt_plan_peak_bytes(t.g));
    assert_true(tt_plan_saved_bytes(t.g) < tt_plan_peak_bytes(t.g));
    for (size_t i = 0; i < t.g->results.count; i++)
      assert_int_equal(tt_val(t.g, t.g->results.data[i].value)->space, TT_SPACE_ARENA);
    tiny_free(&t);
  }
}

/* A chain needs three buffers of its size (the input, and two in turn), however long it is; an elementwise one two, as each
 * value is written over the one before, but not over the input. */
static void chain_is_reused(void **state) {
  (void)state;
  for (int elementwise = 0; elementwise < 2; elementwise++) {
    tiny t;
    tiny_init(&t);
    tt_value x = tt_graph_add_input(t.g, "images", tt_type_make(TT_F32, SHAPE(64)));
    for (int i = 0; i < 20; i++) x = tiny_build(&t, elementwise ? TT_OP_EXP : TT_OP_SOFTMAX, IN(x), 0, NULL);
    tt_graph_set_result(t.g, "y", x);
    tiny_pass(&t, t.g, "plan_memory");
    assert_true(tt_plan_check(t.g, &t.diag));
    assert_int_equal(t.g->arena_bytes, (elementwise ? 2 : 3) * 256);
    tiny_free(&t);
  }
}

/* Written over is what ends with the node and has the result's size: no operand that is read again, none that is broadcast. */
static void results_take_the_place_of_dying_operands(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tt_value x = tt_graph_add_input(t.g, "images", tt_type_make(TT_F32, SHAPE(64, 64)));
  tt_value row = tt_graph_add_input(t.g, "row", tt_type_make(TT_F32, SHAPE(64)));
  tt_value kept = tiny_build(&t, TT_OP_SOFTMAX, IN(x), 0, NULL), dying = tiny_build(&t, TT_OP_SOFTMAX, IN(x), 0, NULL);
  tt_value bias = tiny_build(&t, TT_OP_SOFTMAX, IN(row), 0, NULL);
  tt_value sum = tiny_build(&t, TT_OP_ADD, IN(kept, dying), 0, NULL);
  tt_value shifted = tiny_build(&t, TT_OP_SUB, IN(bias, sum), 0, NULL);
  tt_graph_set_result(t.g, "y", tiny_build(&t, TT_OP_MUL, IN(shifted, kept), 0, NULL));
  tiny_pass(&t, t.g, "plan_memory");
  if (!tt_plan_check(t.g, &t.diag)) fail_msg("%s", t.diag.text);
  assert_int_equal(tt_val(t.g, sum)->offset, tt_val(t.g, dying)->offset);
  assert_int_equal(tt_val(t.g, shifted)->offset, tt_val(t.g, sum)->offset);
  assert_int_not_equal(tt_val(t.g, kept)->offset, tt_val(t.g, sum)->offset);
  assert_int_not_equal(tt_val(t.g, bias)->offset, tt_val(t.g, sum)->offset);
  tiny_free(&t);
}

static void training_step_is_planned(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tiny_vit(&t);
  const tt_pipeline *train = NULL;
  for (int i = 0; i < tt_pipeline_count; i++)
    if (strcmp(tt_pipelines[i].name, "train") == 0) train = &tt_pipelines[i];
  assert_non_null(train);
  tt_graph *g = tt_graph_clone(t.g, "train"), *eval = tt_graph_clone(t.g, "eval");
  tiny_pass(&t, eval, "add_loss");
  tiny_pass(&t, eval, "plan_memory");
  uint64_t params_bytes = t.m->vars_bytes, first = t.m->var_offset.data[3];
  for (int i = 0; i < train->count; i++) tiny_pass(&t, g, train->passes[i]);
  if (!tt_plan_check(g, &t.diag) || !tt_plan_check(eval, &t.diag)) fail_msg("%s", t.diag.text);
  assert_true(g->arena_bytes < tt_plan_unshared_bytes(g) * 3 / 4);
  assert_true(g->arena_bytes <= tt_plan_peak_bytes(g) * 5 / 4);
  /* Weights stay where the first plan put them; the moments follow. */
  assert_int_equal(t.m->var_offset.data[3], first);
  assert_int_equal(t.m->vars_bytes, 3 * params_bytes);
  for (size_t i = 0; i < g->updates.count; i++) {
    const tt_update *u = &g->updates.data[i];
    assert_int_equal(tt_val(g, u->value)->space, TT_SPACE_VARS);
    assert_int_equal(tt_val(g, u->value)->offset, t.m->var_offset.data[u->var]);
  }
  tiny_free(&t);
}

/* A result that is a weight or a constant is copied into the arena; a reshaped constant becomes a constant. */
static void results_outside_the_arena(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tt_attr shape = tt_attr_ints(t.g, TT_A_SHAPE, SHAPE(2, 2));
  float data[4] = {1, 2, 3, 4};
  tt_value p = tiny_param(&t, "p", 0, 1, SHAPE(4));
  tt_value c = tt_graph_const(t.g, tt_type_make(TT_F32, SHAPE(4)), data);
  tt_graph_set_result(t.g, "weight", tiny_build(&t, TT_OP_RESHAPE, IN(p), 1, &shape));
  tt_graph_set_result(t.g, "constant", tiny_build(&t, TT_OP_RESHAPE, IN(c), 1, &shape));
  tiny_pass(&t, t.g, "plan_memory");
  assert_true(tt_plan_check(t.g, &t.diag));
  assert_int_equal(tiny_count(t.g, TT_OP_RESHAPE), 1);
  tt_tensor *results = tiny_eval(&t, t.g, NULL, NULL);
  for (int i = 0; i < 2; i++) assert_int_equal(tt_val(t.g, t.g->results.data[i].value)->space, TT_SPACE_ARENA);
  assert_true(results[1].d[3] == 4 && results[1].type.rank == 2);
  tiny_free(&t);
}

/* What the report lists adds up to the peak it names. */
static void report_adds_up(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tiny_vit(&t);
  tiny_pass(&t, t.g, "add_loss");
  tiny_pass(&t, t.g, "autodiff");
  tiny_pass(&t, t.g, "plan_memory");
  tt_strbuf text = {0};
  tt_plan_report(t.g, &text);
  double sum = 0, peak = (double)tt_plan_peak_bytes(t.g) / (1 << 20);
  int lines = 0;
  for (const char *line = strchr(text.data, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
    sum += strtod(line + 1, NULL); /* 0 for the heading */
    lines++;
  }
  assert_true(lines > 5 && fabs(sum - peak) < 0.0005 * lines);
  assert_non_null(strstr(text.data, "kept until"));
  tt_strbuf_free(&text);
  tiny_free(&t);
}

/* The check itself must see what it is there for. */
static void check_sees_faults(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tiny_vit(&t);
  tiny_pass(&t, t.g, "plan_memory");
  tt_value a = TT_NONE;
  TT_FOR_NODES(t.g, n)
  if (tt_nod(t.g, n)->op == TT_OP_ATTENTION) a = tt_nod(t.g, n)->out[0];
  uint64_t operand = tt_val(t.g, tt_nod(t.g, tt_val(t.g, a)->def)->in[0])->offset;
  tt_val(t.g, a)->offset = operand;
  assert_false(tt_plan_check(t.g, &t.diag));
  assert_non_null(strstr(t.diag.text, "shares bytes"));
  tt_val(t.g, a)->offset = 7;
  assert_false(tt_plan_check(t.g, &t.diag));
  assert_non_null(strstr(t.diag.text, "misaligned"));
  tiny_free(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(random_graphs_never_overlap),
                                     cmocka_unit_test(chain_is_reused),
                                     cmocka_unit_test(results_take_the_place_of_dying_operands),
                                     cmocka_unit_test(training_step_is_planned),
                                     cmocka_unit_test(results_outside_the_arena),
                                     cmocka_unit_test(report_adds_up),
                                     cmocka_unit_test(check_sees_faults)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
