/* Gradients of every rule and of a whole transformer against central differences on the evaluator in double. */
#include "tests/passes/tiny.h"

static double loss_of(tiny *t, const tt_graph *g, const tt_tensor *in, tt_tensor *vars) {
  return tiny_result(g, tiny_eval(t, g, in, vars), "loss")->d[0];
}

/* Compares grad:<param> of every parameter with (loss(w+h) - loss(w-h)) / 2h, element by element. */
static void check_gradients(tiny *t, const char *what) {
  const double h = 1e-5;
  tt_graph *forward = t->g, *backward = tt_graph_clone(t->g, "grad");
  tiny_pass(t, backward, "autodiff");
  tt_tensor *in = tiny_inputs(t, forward), *vars = tiny_vars(t);
  tt_tensor *results = tiny_eval(t, backward, in, vars);
  for (size_t v = 0; v < t->m->vars.count; v++) {
    const tt_var *var = &t->m->vars.data[v];
    const tt_tensor *grad = tiny_result(backward, results, tt_arena_printf(t->arena, "grad:%s", var->name));
    if (!grad) fail_msg("%s: no gradient for %s", what, var->name);
    assert_true(tt_type_equal(&grad->type, &var->type));
    for (int64_t i = 0; i < tt_type_count(&var->type); i++) {
      double *w = &vars[v].d[i], w0 = *w;
      *w = w0 + h;
      double up = loss_of(t, forward, in, vars);
      *w = w0 - h;
      double down = loss_of(t, forward, in, vars);
      *w = w0;
      double expected = (up - down) / (2 * h);
      if (!(fabs(grad->d[i] - expected) <= 1e-6 * (1 + fabs(expected))))
        fail_msg("%s: grad:%s[%d] is %.9g, differences give %.9g", what, var->name, (int)i, grad->d[i], expected);
    }
  }
}

/* loss = sum(y * constant weights), so that no two elements of y have the same gradient. */
static void finish(tiny *t, tt_value y, const char *what) {
  tt_type type = *tt_typ(t->g, y);
  float *weights = tt_arena_alloc(t->arena, tt_type_bytes(&type) + sizeof(float));
  for (int64_t i = 0; i < tt_type_count(&type); i++) weights[i] = (float)tiny_random(t);
  y = tiny_build(t, TT_OP_MUL, IN(y, tt_graph_const(t->g, type, weights)), 0, NULL);
  int64_t axes[TT_MAX_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
  tt_attr attrs[] = {tt_attr_ints(t->g, TT_A_AXES, type.rank, axes), tt_attr_int(TT_A_KEEPDIMS, 0)};
  tt_graph_set_result(t->g, "loss", tiny_build(t, TT_OP_REDUCE_SUM, IN(y), 2, attrs));
  check_gradients(t, what);
  tiny_free(t);
}

static void unary_rules(void **state) {
  (void)state;
  static const tt_op ops[] = {TT_OP_NEG, TT_OP_EXP,  TT_OP_LOG,     TT_OP_SQRT, TT_OP_RECIPROCAL,
                              TT_OP_ERF, TT_OP_TANH, TT_OP_SIGMOID, TT_OP_GELU, TT_OP_SOFTMAX};
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
    for (int form = 0; form < (ops[i] == TT_OP_GELU ? 2 : 1); form++) {
      tiny t;
      tiny_init(&t);
      tt_attr attr = tt_attr_int(TT_A_TANH, form);
      tt_value x = tiny_param(&t, "x", 1.5, 1, SHAPE(3, 4));
      finish(&t, tiny_build(&t, ops[i], IN(x), ops[i] == TT_OP_GELU, &attr), tt_ops[ops[i]].name);
    }
  }
}

static void binary_rules_broadcast(void **state) {
  (void)state;
  static const tt_op ops[] = {TT_OP_ADD, TT_OP_SUB, TT_OP_MUL, TT_OP_DIV};
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
    for (int form = 0; form < 4; form++) {
      tiny t;
      tiny_init(&t);
      tt_value a = tiny_param(&t, "a", 2, 1, SHAPE(2, 3, 4)), b;
      if (form == 0)
        b = tiny_param(&t, "b", 2, 1, SHAPE(2, 3, 4));
      else if (form == 1)
        b = tiny_param(&t, "b", 2, 1, SHAPE(3, 1));
      else if (form == 2)
        b = tiny_param(&t, "b", 2, 1, 0, NULL);
      else
        b = a;
      tt_value y = form == 1 ? tiny_build(&t, ops[i], IN(b, a), 0, NULL) : tiny_build(&t, ops[i], IN(a, b), 0, NULL);
      finish(&t, y, tt_ops[ops[i]].name);
    }
  }
}

static void movement_rules(void **state) {
  (void)state;
  for (int form = 0; form < 5; form++) {
    tiny t;
    tiny_init(&t);
    tt_value x = tiny_param(&t, "x", 0, 1, SHAPE(2, 3, 5)), y;
    tt_attr shape = tt_attr_ints(t.g, TT_A_SHAPE, SHAPE(6, 5)), perm = tt_attr_ints(t.g, TT_A_PERM, SHAPE(2, 0, 1));
    tt_attr slice[] = {tt_attr_ints(t.g, TT_A_STARTS, SHAPE(0, 1, 0)), tt_attr_ints(t.g, TT_A_ENDS, SHAPE(2, 2, 4)),
                       tt_attr_ints(t.g, TT_A_STEPS, SHAPE(1, 1, 3))};
    tt_attr axis = tt_attr_int(TT_A_AXIS, 1), wide = tt_attr_ints(t.g, TT_A_SHAPE, SHAPE(4, 2, 3, 5));
    if (form == 0)
      y = tiny_build(&t, TT_OP_RESHAPE, IN(x), 1, &shape);
    else if (form == 1)
      y = tiny_build(&t, TT_OP_TRANSPOSE, IN(x), 1, &perm);
    else if (form == 2)
      y = tiny_build(&t, TT_OP_SLICE, IN(x), 3, slice);
    else if (form == 3)
      y = tiny_build(&t, TT_OP_CONCAT, IN(x, tiny_param(&t, "z", 0, 1, SHAPE(2, 2, 5)), x), 1, &axis);
    else
      y = tiny_build(&t, TT_OP_EXPAND, IN(tiny_param(&t, "e", 0, 1, SHAPE(2, 1, 5))), 1, &wide);
    if (form == 4) y = tiny_build(&t, TT_OP_MUL, IN(y, x), 0, NULL);
    finish(&t, y, "movement");
  }
}

static void reduction_rules(void **state) {
  (void)state;
  for (int form = 0; form < 8; form++) {
    tiny t;
    tiny_init(&t);
    tt_value x = tiny_param(&t, "x", 0, 1, SHAPE(2, 3, 5));
    tt_attr attrs[] = {form & 1 ? tt_attr_ints(t.g, TT_A_AXES, SHAPE(0, 2)) : tt_attr_ints(t.g, TT_A_AXES, SHAPE(1)),
                       tt_attr_int(TT_A_KEEPDIMS, form >> 1 & 1)};
    finish(&t, tiny_build(&t, form & 4 ? TT_OP_REDUCE_MEAN : TT_OP_REDUCE_SUM, IN(x), 2, attrs), "reduction");
  }
}

static void matmul_rules(void **state) {
  (void)state;
  for (int form = 0; form < 8; form++) {
    bool ta = form & 1, tb = form & 2, shared = form & 4;
    tiny t;
    tiny_init(&t);
    tt_value a = ta ? tiny_param(&t, "a", 0, 1, SHAPE(2, 4, 3)) : tiny_param(&t, "a", 0, 1, SHAPE(2, 3, 4)), b;
    if (shared)
      b = tb ? tiny_param(&t, "b", 0, 1, SHAPE(5, 4)) : tiny_param(&t, "b", 0, 1, SHAPE(4, 5));
    else
      b = tb ? tiny_param(&t, "b", 0, 1, SHAPE(2, 5, 4)) : tiny_param(&t, "b", 0, 1, SHAPE(2, 4, 5));
    tt_attr attrs[] = {tt_attr_int(TT_A_TRANS_A, ta), tt_attr_int(TT_A_TRANS_B, tb)};
    finish(&t, tiny_build(&t, TT_OP_MATMUL, IN(a, b), 2, attrs), "matmul");
  }
}

static void linear_and_norm_rules(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  finish(&t, tiny_linear(&t, tiny_param(&t, "x", 0, 1, SHAPE(2, 3, 4)), "w", "b", 5), "linear");
  tiny_init(&t);
  tt_value x = tiny_param(&t, "x", 0, 1, SHAPE(3, 4));
  finish(&t, tiny_build(&t, TT_OP_LINEAR, IN(x, tiny_param(&t, "w", 0, 1, SHAPE(2, 4))), 0, NULL), "linear without bias");
  tiny_init(&t);
  finish(&t, tiny_norm(&t, tiny_param(&t, "x", 0, 1, SHAPE(2, 3, 6)), "gamma", "beta"), "layernorm");
}

static void attention_rules(void **state) {
  (void)state;
  for (int split = 0; split < 2; split++) {
    tiny t;
    tiny_init(&t);
    tt_attr attrs[] = {tt_attr_int(TT_A_HEADS, 2), tt_attr_float(TT_A_SCALE, 0.6)};
    tt_value y;
    if (split) {
      tt_value q = tiny_param(&t, "q", 0, 1, SHAPE(2, 3, 8)), k = tiny_param(&t, "k", 0, 1, SHAPE(2, 3, 8));
      y = tiny_build(&t, TT_OP_ATTENTION, IN(q, k, tiny_param(&t, "v", 0, 1, SHAPE(2, 3, 8))), 2, attrs);
    } else {
      y = tiny_build(&t, TT_OP_ATTENTION, IN(tiny_param(&t, "qkv", 0, 1, SHAPE(2, 3, 24))), 2, attrs);
    }
    finish(&t, y, "attention");
  }
}

static void whole_vit(void **state) {
  (void)state;
  for (int soft = 0; soft < 2; soft++) {
    tiny t;
    tiny_init(&t);
    tiny_vit(&t);
    t.recipe.soft_labels = soft;
    t.recipe.label_smoothing = soft ? 0 : 0.1;
    tiny_pass(&t, t.g, "add_loss");
    check_gradients(&t, "tiny vit");
    tiny_free(&t);
  }
}

static void missing_rule_is_named(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tt_value y = tiny_build(&t, TT_OP_MAX, IN(tiny_param(&t, "x", 0, 1, SHAPE(2)), tt_graph_const_f32(t.g, 0)), 0, NULL);
  tt_attr attrs[] = {tt_attr_ints(t.g, TT_A_AXES, SHAPE(0)), tt_attr_int(TT_A_KEEPDIMS, 0)};
  tt_graph_set_result(t.g, "loss", tiny_build(&t, TT_OP_REDUCE_SUM, IN(y), 2, attrs));
  assert_int_equal(tiny_run(&t, t.g, tt_pass_find("autodiff")->run), TT_PASS_FAILED);
  assert_non_null(strstr(t.diag.text, "no gradient rule for op 'max'"));
  tiny_free(&t);
}

/* An op without a rule does no harm beside the path from the parameters. */
static void missing_rule_off_the_path(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tt_value x = tt_graph_add_input(t.g, "images", tt_type_make(TT_F32, SHAPE(2, 3)));
  x = tiny_build(&t, TT_OP_ABS, IN(x), 0, NULL);
  finish(&t, tiny_linear(&t, x, "w", "b", 2), "abs before the first parameter");
}

/* One step of the train graph against AdamW by hand; decay falls on the weights of products alone. */
static void optimizer_step(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tiny_vit(&t);
  t.recipe.clip_norm = 0.05;
  tiny_pass(&t, t.g, "add_loss");
  tt_graph *grad = tt_graph_clone(t.g, "grad"), *train = tt_graph_clone(t.g, "train");
  tiny_pass(&t, grad, "autodiff");
  tiny_pass(&t, train, "autodiff");
  tiny_pass(&t, train, "add_optimizer");
  tt_tensor *before = tiny_vars(&t), *after = tiny_vars(&t);
  tt_tensor *grads = tiny_eval(&t, grad, tiny_inputs(&t, grad), before);
  tt_tensor *results = tiny_eval(&t, train, tiny_inputs(&t, train), after);
  double norm = tiny_result(train, results, "grad_norm")->d[0], coef = 0.05 / (norm + 1e-6), sum = 0;
  assert_true(coef < 1);
  const tt_tensor *sumsq = tiny_result(train, results, "grad_sumsq");
  int k = 0, decayed = 0;
  for (size_t v = 0; v < t.m->vars.count; v++) {
    const tt_var *var = &t.m->vars.data[v];
    if (var->role != TT_VAR_PARAM) continue;
    const tt_tensor *g = tiny_result(grad, grads, tt_arena_printf(t.arena, "grad:%s", var->name));
    double squares = 0, wd = var->decay ? t.recipe.weight_decay : 0;
    assert_int_equal(var->decay, strstr(var->name, "norm") == NULL && strstr(var->name, ".w") != NULL);
    decayed += var->decay;
    for (int64_t i = 0; i < tt_type_count(&var->type); i++) {
      double gi = g->d[i] * coef, w = before[v].d[i];
      squares += g->d[i] * g->d[i];
      double want = w - 0.01 * wd * w - 0.01 * gi / (fabs(gi) + 1e-8);
      assert_true(fabs(after[v].d[i] - want) < 1e-6);
    }
    assert_true(fabs(sumsq->d[k++] - squares) <= 1e-9 * (1 + squares));
    sum += squares;
  }
  assert_int_equal(decayed, 6);
  assert_true(fabs(norm - sqrt(sum)) < 1e-9);
  assert_int_equal(train->updates.count, 3 * (size_t)k);
  tiny_free(&t);
}

static void unreachable_parameter_warns(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tiny_param(&t, "pooler.w", 0, 1, SHAPE(4, 4));
  tiny_vit(&t);
  tiny_pass(&t, t.g, "add_loss");
  tiny_pass(&t, t.g, "autodiff");
  tiny_pass(&t, t.g, "add_optimizer");
  assert_int_equal(t.diag.warnings, 1);
  assert_non_null(strstr(t.diag.text, "'pooler.w'"));
  tt_tensor *vars = tiny_vars(&t);
  tt_tensor *results = tiny_eval(&t, t.g, tiny_inputs(&t, t.g), vars);
  assert_true(tiny_result(t.g, results, "grad_sumsq")->d[0] == 0);
  tiny_free(&t);
}

static void loss_wants_logits(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tt_value ids = tt_graph_add_input(t.g, "ids", tt_type_make(TT_I64, SHAPE(2, 3)));
  assert_int_equal(tiny_run(&t, t.g, tt_pass_find("add_loss")->run), TT_PASS_FAILED);
  assert_non_null(strstr(t.diag.text, "input 'ids' is i64[2,3]"));
  tt_val(t.g, ids)->type.dtype = TT_F32;
  tt_graph_set_result(t.g, "features", tiny_param(&t, "x", 0, 1, SHAPE(2, 3, 4)));
  assert_int_equal(tiny_run(&t, t.g, tt_pass_find("add_loss")->run), TT_PASS_FAILED);
  assert_non_null(strstr(t.diag.text, "f32[2,3,4]"));
  tiny_free(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(unary_rules),           cmocka_unit_test(binary_rules_broadcast),
                                     cmocka_unit_test(movement_rules),        cmocka_unit_test(reduction_rules),
                                     cmocka_unit_test(matmul_rules),          cmocka_unit_test(linear_and_norm_rules),
                                     cmocka_unit_test(attention_rules),       cmocka_unit_test(whole_vit),
                                     cmocka_unit_test(missing_rule_is_named), cmocka_unit_test(missing_rule_off_the_path),
                                     cmocka_unit_test(optimizer_step),        cmocka_unit_test(unreachable_parameter_warns),
                                     cmocka_unit_test(loss_wants_logits)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
