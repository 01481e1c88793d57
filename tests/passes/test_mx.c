/* The 4-bit rewrite and its backward: which layers, the exact subgraph, all 64 settings of on and off, exact values against
 * the scalar arithmetic, and that the stochastic backward is unbiased. */
#include "compiler/ir/mx.h"
#include "compiler/support/strbuf.h"
#include "tests/passes/tiny.h"

static void use_recipe(tiny *t, const char *name) {
  tt_recipe *r = tt_recipe_load(name, TETRAC_SOURCE_DIR "/passes/recipes", 0, NULL, t->arena, &t->diag);
  if (!r) fail_msg("%s", t->diag.text);
  t->recipe = *r;
}

/* x (a parameter, so that its gradient is wanted) [rows,k] -> residual linear [n,k] with n == k; loss = sum(y * weights).
 */
static tt_value residual_linear(tiny *t, int64_t rows, int64_t k) {
  tt_value x = tiny_param(t, "x", 0, 1, SHAPE(rows, k));
  x = tiny_build(t, TT_OP_NEG, IN(x), 0, NULL);
  tt_value y = tiny_linear(t, x, "w", "b", k);
  return tiny_build(t, TT_OP_ADD, IN(x, y), 0, NULL);
}

static void weigh(tiny *t, tt_value y) {
  tt_type type = *tt_typ(t->g, y);
  tt_value u = tt_graph_add_input(t->g, "u", type);
  tt_attr attrs[] = {tt_attr_ints(t->g, TT_A_AXES, SHAPE(0, 1)), tt_attr_int(TT_A_KEEPDIMS, 0)};
  tt_graph_set_result(t->g, "loss",
                      tiny_build(t, TT_OP_REDUCE_SUM, IN(tiny_build(t, TT_OP_MUL, IN(y, u), 0, NULL)), 2, attrs));
}

/* The graph's MX nodes and products, one word each, with quantizers spelled out. */
static char *describe(tiny *t, const tt_graph *g) {
  tt_strbuf sb = {0};
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (strncmp(tt_ops[d->op].name, "mx.", 3) != 0 && d->op != TT_OP_MATMUL && d->op != TT_OP_LINEAR) continue;
    char q[64], type[TT_TYPE_TEXT];
    tt_strbuf_printf(&sb, "%s", tt_ops[d->op].name);
    if (tt_node_attr(g, n, TT_A_Q)) tt_strbuf_printf(&sb, "{%s}", tt_qspec_print(tt_node_qspec(g, n, TT_A_Q), q, sizeof q));
    if (tt_node_int(g, n, TT_A_TRANSPOSED)) tt_strbuf_printf(&sb, "^T");
    tt_strbuf_printf(&sb, " %s\n", tt_type_print(tt_typ(g, d->out[0]), type, sizeof type));
  }
  char *text = tt_arena_str(t->arena, sb.data ? sb.data : "");
  tt_strbuf_free(&sb);
  return text;
}

static char *backward_of(const char *recipe, bool mixed, int off) {
  tiny t;
  tiny_init(&t);
  use_recipe(&t, recipe);
  if (off) t.recipe.q[off - 1].on = false;
  weigh(&t, residual_linear(&t, 6, 40));
  tiny_pass(&t, t.g, "lower_mx");
  tiny_pass(&t, t.g, "autodiff");
  if (mixed) tiny_pass(&t, t.g, "lower_mx_mixed");
  char *text = strdup(describe(&t, t.g));
  tiny_free(&t);
  return text;
}

static void expect_backward(const char *recipe, bool mixed, int off, const char *expected) {
  char *text = backward_of(recipe, mixed, off);
  assert_string_equal(text, expected);
  free(text);
}

static void tetrajet_subgraph(void **state) {
  (void)state;
  expect_backward("tetrajet", true, 0,
                  "mx.quantize{e2m1:ceil:nearest} mx.e2m1[6,40]\n"
                  "mx.quantize{e2m1:ceil:nearest} mx.e2m1[40,40]\n"
                  "mx.gemm f32[6,40]\n"
                  "mx.quantize{e2m1:ceil:stochastic} mx.e2m1[6,40]\n"
                  "mx.requantize{e2m1:ceil:stochastic:double} mx.e2m1[40,40]\n"
                  "mx.gemm f32[6,40]\n"
                  "mx.quantize{e2m1:ceil:stochastic}^T mx.e2m1[40,6]\n"
                  "mx.requantize{e2m1:ceil:stochastic:double} mx.e2m1[40,6]\n"
                  "mx.gemm f32[40,40]\n"
                  "mx.colsum f32[40]\n");
}

static void microscaling_subgraph(void **state) {
  (void)state;
  expect_backward("microscaling", true, 0,
                  "mx.quantize{e2m1:floor:nearest} mx.e2m1[6,40]\n"
                  "mx.quantize{e2m1:floor:nearest} mx.e2m1[40,40]\n"
                  "mx.gemm f32[6,40]\n"
                  "mx.quantize{e2m1:floor:nearest} mx.e2m1[6,40]\n"
                  "mx.quantize{e2m1:floor:nearest}^T mx.e2m1[40,40]\n"
                  "mx.gemm f32[6,40]\n"
                  "mx.quantize{e2m1:floor:nearest}^T mx.e2m1[40,6]\n"
                  "mx.quantize{e2m1:floor:nearest}^T mx.e2m1[40,6]\n"
                  "mx.gemm f32[40,40]\n"
                  "mx.colsum f32[40]\n");
}

static void mixed_subgraph(void **state) {
  (void)state;
  expect_backward("tetrajet", true, 4, /* dx from the dequantized weight; its transpose is folded into the product */
                  "mx.quantize{e2m1:ceil:nearest} mx.e2m1[6,40]\n"
                  "mx.quantize{e2m1:ceil:nearest} mx.e2m1[40,40]\n"
                  "mx.gemm f32[6,40]\n"
                  "mx.quantize{e2m1:ceil:stochastic} mx.e2m1[6,40]\n"
                  "mx.dequantize f32[40,40]\n"
                  "mx.dequantize f32[6,40]\n"
                  "matmul f32[6,40]\n"
                  "mx.quantize{e2m1:ceil:stochastic}^T mx.e2m1[40,6]\n"
                  "mx.requantize{e2m1:ceil:stochastic:double} mx.e2m1[40,6]\n"
                  "mx.gemm f32[40,40]\n"
                  "mx.colsum f32[40]\n");
  expect_backward("tetrajet", true, 1, /* the forward is float32 over the dequantized weight */
                  "mx.quantize{e2m1:ceil:nearest} mx.e2m1[40,40]\n"
                  "mx.dequantize f32[40,40]\n"
                  "linear f32[6,40]\n"
                  "mx.quantize{e2m1:ceil:stochastic} mx.e2m1[6,40]\n"
                  "mx.requantize{e2m1:ceil:stochastic:double} mx.e2m1[40,40]\n"
                  "mx.gemm f32[6,40]\n"
                  "mx.quantize{e2m1:ceil:stochastic}^T mx.e2m1[40,6]\n"
                  "mx.quantize{e2m1:ceil:stochastic:double}^T mx.e2m1[40,6]\n"
                  "mx.gemm f32[40,40]\n"
                  "mx.colsum f32[40]\n");
}

static int lowered(tiny *t) {
  tiny_pass(t, t->g, "lower_mx");
  return tiny_count(t->g, TT_OP_MX_GEMM);
}

static void block_linears_by_structure(void **state) {
  (void)state;
  static const struct {
    tt_layers layers;
    const char *skip;
    int gemms, warnings;
  } cases[] = {{TT_LAYERS_BLOCK, "", 4, 0},
               {TT_LAYERS_ALL, "", 6, 0},
               {TT_LAYERS_NONE, "", 0, 0},
               {TT_LAYERS_BLOCK, "fc?.w", 2, 0},
               {TT_LAYERS_ALL, "head*,patch*", 4, 0},
               {TT_LAYERS_BLOCK, "nosuch", 4, 1},
               {TT_LAYERS_BLOCK, "*", 0, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tiny t;
    tiny_init(&t);
    use_recipe(&t, "tetrajet");
    t.recipe.layers = cases[i].layers;
    t.recipe.layers_skip = cases[i].skip;
    tiny_vit(&t);
    assert_int_equal(lowered(&t), cases[i].gemms);
    assert_int_equal(t.diag.warnings, cases[i].warnings);
    assert_int_equal(tiny_count(t.g, TT_OP_LINEAR), 6 - cases[i].gemms);
    tiny_free(&t);
  }
}

/* Two branches of one stream added one after the other; three linears of one x share its quantized form. */
static void parallel_branches_and_shared_inputs(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  use_recipe(&t, "tetrajet");
  tt_value x = tiny_linear(&t, tt_graph_add_input(t.g, "images", tt_type_make(TT_F32, SHAPE(2, 4, 8))), "patch", "pb", 8);
  tt_value a = tiny_linear(&t, x, "q", "qb", 8), b = tiny_linear(&t, x, "k", "kb", 8), c = tiny_linear(&t, x, "v", "vb", 8);
  tt_attr heads[] = {tt_attr_int(TT_A_HEADS, 2), tt_attr_float(TT_A_SCALE, 0.5)};
  tt_value h = tiny_build(&t, TT_OP_ATTENTION, IN(a, b, c), 2, heads);
  x = tiny_build(&t, TT_OP_ADD, IN(tiny_build(&t, TT_OP_ADD, IN(x, h), 0, NULL), tiny_linear(&t, x, "mlp", "mb", 8)), 0,
                 NULL);
  tt_attr axes[] = {tt_attr_ints(t.g, TT_A_AXES, SHAPE(1)), tt_attr_int(TT_A_KEEPDIMS, 0)};
  tt_graph_set_result(t.g, "logits", tiny_linear(&t, tiny_build(&t, TT_OP_REDUCE_MEAN, IN(x), 2, axes), "head", "hb", 3));
  assert_int_equal(lowered(&t), 4);
  assert_int_equal(tiny_count(t.g, TT_OP_LINEAR), 2);
  assert_int_equal(tiny_count(t.g, TT_OP_MX_QUANTIZE), 5); // x once, four weights
  tiny_pass(&t, t.g, "add_loss");
  tiny_pass(&t, t.g, "autodiff");
  assert_int_equal(tiny_count(t.g, TT_OP_MX_REQUANTIZE), 5); // the four weights and x, once
  tiny_free(&t);
}

static void all_off_changes_nothing(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tiny_vit(&t);
  assert_int_equal(tiny_run(&t, t.g, tt_pass_find("lower_mx")->run), TT_PASS_UNCHANGED);
  tiny_free(&t);
}

/* |a - b| / |b| over n tensors together. */
static double distance(const tt_tensor *a, const tt_tensor *b, size_t n) {
  double diff = 0, norm = 1e-24;
  for (size_t k = 0; k < n; k++) {
    for (int64_t i = 0; i < tt_type_count(&a[k].type); i++) {
      diff += (a[k].d[i] - b[k].d[i]) * (a[k].d[i] - b[k].d[i]);
      norm += b[k].d[i] * b[k].d[i];
    }
  }
  return sqrt(diff / norm);
}

/* Every subset of the six quantizers builds, evaluates, loses nothing to lower_mx_mixed, and stays near float32. */
static void every_subset_of_quantizers(void **state) {
  (void)state;
  static const char *const recipes[] = {"tetrajet", "microscaling"};
  for (int i = 0; i < 128; i++) {
    tiny t;
    tiny_init(&t);
    use_recipe(&t, recipes[i / 64]);
    for (int k = 0; k < 6; k++) t.recipe.q[k].on = i >> k & 1;
    tiny_vit(&t);
    tt_graph *fp32 = tt_graph_clone(t.g, "fp32");
    tiny_pass(&t, t.g, "lower_mx");
    tt_graph *graphs[2] = {t.g, fp32};
    for (int k = 0; k < 2; k++) {
      tiny_pass(&t, graphs[k], "add_loss");
      tiny_pass(&t, graphs[k], "autodiff");
    }
    tt_graph *mixed = tt_graph_clone(t.g, "mixed");
    tiny_pass(&t, mixed, "lower_mx_mixed");
    TT_FOR_NODES(mixed, n)
    if (tt_nod(mixed, n)->op == TT_OP_MX_GEMM)
      for (int k = 0; k < 2; k++) assert_int_equal(tt_typ(mixed, tt_nod(mixed, n)->in[k])->dtype, TT_MX);
    tt_tensor *a = tiny_eval(&t, t.g, tiny_inputs(&t, t.g), NULL), *b = tiny_eval(&t, mixed, tiny_inputs(&t, mixed), NULL);
    tt_tensor *c = tiny_eval(&t, fp32, tiny_inputs(&t, fp32), NULL);
    size_t n = t.g->results.count;
    for (size_t k = 0; k < n; k++)
      if (distance(&b[k], &a[k], 1) > 1e-5) fail_msg("subset %d, %s: lowering changed it", i, t.g->results.data[k].name);
    double far = distance(a, c, n), forward = distance(a, c, 3);
    /* The forward errs by Q1 and Q2 alone; loss, losses and logits are the first three results. */
    if (forward > (i & 3 ? 0.5 : 1e-5) || far > (i & 63 ? 1 : 1e-5)) fail_msg("subset %d: far from float32", i);
    tiny_free(&t);
  }
}

/* The TetraJet linear by the scalar arithmetic of mx.h, equation by equation, against the evaluated graph: equal bits. */
static void exact_values(void **state) {
  (void)state;
  enum { M = 6, K = 40 };
  tiny t;
  tiny_init(&t);
  use_recipe(&t, "tetrajet");
  weigh(&t, residual_linear(&t, M, K));
  tiny_pass(&t, t.g, "lower_mx");
  tiny_pass(&t, t.g, "autodiff");
  tt_tensor *in = tiny_inputs(&t, t.g), *results = tiny_eval(&t, t.g, in, NULL);
  const float *x = t.m->vars.data[0].init, *w = t.m->vars.data[1].init;
  float minus[M * K], dy[M * K], values[K * K], dx[M * K], dw[K * K];
  for (int i = 0; i < M * K; i++) {
    minus[i] = -x[i];
    dy[i] = (float)in[tt_val(t.g, tt_graph_find_input(t.g, "u"))->index].d[i];
  }
  int64_t tensor[6] = {0};
  int k = 2;
  TT_FOR_NODES(t.g, n) /* stochastic quantizers in the order Q3, Q4, Q5, Q6 */
  if (tt_node_attr(t.g, n, TT_A_TENSOR)) tensor[k++] = tt_node_int(t.g, n, TT_A_TENSOR);
  assert_int_equal(k, 6);
  uint64_t key[6];
  for (int i = 0; i < 6; i++) key[i] = tt_rng_key(3, 5, tensor[i]);
  const tt_qspec *q = t.recipe.q;
  tt_type mk = tt_type_mx(TT_E2M1, M, K), kk = tt_type_mx(TT_E2M1, K, K), km = tt_type_mx(TT_E2M1, K, M);
  uint8_t q1[2048], q2[8192], a[8192], b[8192];
  tt_mx_quantize(q[0], M, K, minus, K, 1, NULL, 0, q1);
  tt_mx_quantize(q[1], K, K, w, K, 1, NULL, 0, q2);
  tt_mx_quantize(q[2], M, K, dy, K, 1, NULL, key[2], a);
  tt_mx_dequantize(&kk, q2, values);
  tt_mx_quantize(q[3], K, K, values, 1, K, NULL, key[3], b);
  tt_mx_gemm(&mk, a, &kk, b, NULL, dx);
  tt_mx_quantize(q[4], K, M, dy, 1, K, NULL, key[4], a);
  tt_mx_dequantize(&mk, q1, values);
  tt_mx_quantize(q[5], K, M, values, 1, K, NULL, key[5], b);
  tt_mx_gemm(&km, a, &km, b, NULL, dw);
  const tt_tensor *gx = tiny_result(t.g, results, "grad:x"), *gw = tiny_result(t.g, results, "grad:w");
  for (int i = 0; i < M * K; i++) assert_true(gx->d[i] == -((double)dx[i] + dy[i]));
  for (int i = 0; i < K * K; i++) assert_true(gw->d[i] == (double)dw[i]);
  tiny_free(&t);
}

/* Equations (8) and (9) of the paper: E[dx] = dy Q2(w), E[dw] = dy^T Q1(x), E[db] = column sums of dy. The reference is the
 * same graph with Q3 to Q6 off, which computes just these. */
static void backward_is_unbiased(void **state) {
  (void)state;
  enum { STEPS = 1500 };
  static const char *const names[] = {"grad:x", "grad:w", "grad:b"};
  tiny t;
  tiny_init(&t);
  use_recipe(&t, "tetrajet");
  weigh(&t, residual_linear(&t, 5, 36));
  tt_graph *exact = tt_graph_clone(t.g, "exact");
  tiny_pass(&t, t.g, "lower_mx");
  tiny_pass(&t, t.g, "autodiff");
  for (int i = 2; i < 6; i++) t.recipe.q[i].on = false;
  tiny_pass(&t, exact, "lower_mx");
  tiny_pass(&t, exact, "autodiff");
  tt_tensor *want = tiny_eval(&t, exact, tiny_inputs(&t, exact), NULL);
  double *sum[3], *squares[3];
  for (int k = 0; k < 3; k++) {
    size_t count = (size_t)tt_type_count(&tiny_result(exact, want, names[k])->type);
    sum[k] = TT_NEW_N(t.arena, double, count);
    squares[k] = TT_NEW_N(t.arena, double, count);
  }
  tt_tensor *in = tiny_inputs(&t, t.g);
  for (int step = 0; step < STEPS; step++) {
    in[tt_val(t.g, tt_graph_rng(t.g))->index].d[1] = step;
    tt_arena *keep = t.arena;
    t.arena = tt_arena_create();
    tt_tensor *got = tiny_eval(&t, t.g, in, NULL);
    for (int k = 0; k < 3; k++) {
      const tt_tensor *g = tiny_result(t.g, got, names[k]), *e = tiny_result(exact, want, names[k]);
      for (int64_t i = 0; i < tt_type_count(&g->type); i++) {
        sum[k][i] += g->d[i] - e->d[i];
        squares[k][i] += (g->d[i] - e->d[i]) * (g->d[i] - e->d[i]);
      }
    }
    tt_arena_destroy(t.arena);
    t.arena = keep;
  }
  for (int k = 0; k < 3; k++) {
    int64_t count = tt_type_count(&tiny_result(exact, want, names[k])->type);
    double chi2 = 0;
    for (int64_t i = 0; i < count; i++) {
      double error = sqrt(squares[k][i]) / STEPS, mean = sum[k][i] / STEPS;
      if (fabs(mean) > 5 * error + 1e-5) fail_msg("%s[%d] is off by %g, standard error %g", names[k], (int)i, mean, error);
      if (error > 0) chi2 += mean * mean / (error * error) / (double)count;
    }
    assert_true(chi2 < 1.5); // a bias shared by many elements would show here first
  }
  tiny_free(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(tetrajet_subgraph),
                                     cmocka_unit_test(microscaling_subgraph),
                                     cmocka_unit_test(mixed_subgraph),
                                     cmocka_unit_test(block_linears_by_structure),
                                     cmocka_unit_test(parallel_branches_and_shared_inputs),
                                     cmocka_unit_test(all_off_changes_nothing),
                                     cmocka_unit_test(every_subset_of_quantizers),
                                     cmocka_unit_test(exact_values),
                                     cmocka_unit_test(backward_is_unbiased)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
