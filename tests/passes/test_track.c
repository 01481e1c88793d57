/* The tracking graphs on a random walk of the weights, against the definitions of NUMERICS 7 written out here. */
#include "compiler/ir/mx.h"
#include "tests/passes/tiny.h"

static const char *const weights[] = {"qkv.w", "proj.w", "fc1.w", "fc2.w"};
enum { N = 4, STEPS = 41 };

static tt_graph *entry(tiny *t, const char *name, const char *pass) {
  tt_graph *g = tt_graph_clone(t->g, name);
  tiny_pass(t, g, pass);
  tiny_pass(t, g, "opt_dce");
  return g;
}

static tt_tensor *inputs(tiny *t, const tt_graph *g, const char *name, double value) {
  tt_tensor *in = tiny_inputs(t, g);
  for (size_t i = 0; i < g->inputs.count; i++)
    if (strcmp(tt_val(g, g->inputs.data[i])->name, name) == 0) in[i].d[0] = value;
  return in;
}

/* A weight's way through the window, and what it is rounded to. */
typedef struct path {
  int64_t n, cols;
  float w[STEPS][512], q[STEPS][512];
} path;

static void round_weights(path *p, int step) {
  static const double grid[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (int64_t i = 0; i < p->n; i++) {
    double max = 0, best = 0;
    for (int64_t k = i / p->cols * p->cols; k < i / p->cols * p->cols + p->cols; k++)
      max = fmax(max, fabs((double)p->w[step][k]));
    double scale = exp2(ceil(log2(max / 6))), y = fabs((double)p->w[step][i]) / scale;
    for (int g = 1; g < 8; g++)
      if (fabs(y - grid[g]) < fabs(y - best)) best = grid[g];
    p->q[step][i] = (float)copysign(best * scale, (double)p->w[step][i]);
  }
}

static void walk(tiny *t, path *p, tt_tensor *w, int step) {
  for (int64_t i = 0; i < p->n; i++) {
    if (step) w->d[i] = (double)(float)(w->d[i] + (i % 3 ? 0.05 : 0.0004) * tiny_random(t));
    p->w[step][i] = (float)w->d[i];
  }
  round_weights(p, step);
}

static double distance(const float (*x)[512], int64_t i) {
  double sum = 0;
  for (int s = 1; s < STEPS; s++) sum += fabs((double)x[s][i] - (double)x[s - 1][i]);
  return sum;
}

/* Mean over the steps of |x_t - x_(t-1)| / |x_(t-1)|, over paths [first, last). */
static double rate(const path *p, int first, int last, bool rounded) {
  double mean = 0;
  for (int s = 1; s < STEPS; s++) {
    double move = 0, norm = 0;
    for (int k = first; k < last; k++)
      for (int64_t i = 0; i < p[k].n; i++) {
        double now = (double)(rounded ? p[k].q : p[k].w)[s][i], before = (double)(rounded ? p[k].q : p[k].w)[s - 1][i];
        move += (now - before) * (now - before);
        norm += before * before;
      }
    mean += sqrt(move / norm) / (STEPS - 1);
  }
  return mean;
}

static void near(const tt_tensor *x, int64_t row, double want) {
  if (!(fabs(x->d[row] - want) <= 1e-5 * (1e-3 + fabs(want)))) fail_msg("row %d is %g, expected %g", (int)row, x->d[row], want);
}

static void check_rows(const tt_graph *g, const tt_tensor *results, const path *p, int row, int first, int last) {
  double n = 0, ratio = 0, over = 0, off = 0, norm = 0;
  for (int k = first; k < last; k++)
    for (int64_t i = 0; i < p[k].n; i++) {
      double r = distance(p[k].q, i) / (distance(p[k].w, i) + 1e-8), w = (double)p[k].w[STEPS - 1][i];
      double e = w - (double)p[k].q[STEPS - 1][i];
      n++, ratio += r, over += r > 16, off += e * e, norm += w * w;
    }
  near(tiny_result(g, results, "track:elements"), row, n);
  near(tiny_result(g, results, "track:ratio"), row, ratio / n);
  near(tiny_result(g, results, "track:oscillating"), row, over / n);
  near(tiny_result(g, results, "track:error"), row, sqrt(off / norm));
  near(tiny_result(g, results, "track:rate_w"), row, rate(p, first, last, false));
  near(tiny_result(g, results, "track:rate_q"), row, rate(p, first, last, true));
}

static void check_peak(const tt_graph *g, const tt_tensor *results, const path *p, int row) {
  int64_t best = 0;
  double most = -1;
  for (int64_t i = 0; i < p->n; i++) {
    double r = distance(p->q, i) / (distance(p->w, i) + 1e-8);
    if (r > most) most = r, best = i;
  }
  near(tiny_result(g, results, "track_peak"), row, most);
  assert_int_equal(tiny_result(g, results, "track_peak_index")->d[row], best);
}

/* Q2's error is known from the report; each of the others lies where 4 bits put it, Q4 and Q6 lower for they requantize. */
static void check_quantizers(tiny *t, tt_tensor *vars, double q2) {
  tt_graph *g = tt_graph_clone(t->g, "quantizer_errors");
  static const char *const passes[] = {"add_loss", "autodiff", "add_quantizer_errors", "opt_fold", "lower_mx_mixed",
                                       "opt_cse",  "opt_dce"};
  for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) tiny_pass(t, g, passes[i]);
  assert_int_equal(g->results.count, 7); /* and logits */
  tt_tensor *results = tiny_eval(t, g, tiny_inputs(t, g), vars);
  for (int i = 1; i <= 6; i++) {
    const tt_tensor *e = tiny_result(g, results, tt_arena_printf(t->arena, "quantizer_error:q%d", i));
    assert_non_null(e);
    assert_true(e->d[0] >= 0 && e->d[0] < 0.4);
    if (i == 2) near(e, 0, q2);
  }
}

static void follows_weights(void **state) {
  (void)state;
  static path p[N];
  tiny t;
  tiny_init(&t);
  tt_recipe *r = tt_recipe_load("tetrajet", TETRAC_SOURCE_DIR "/passes/recipes", 0, NULL, t.arena, &t.diag);
  assert_non_null(r);
  t.recipe = *r;
  tiny_vit(&t);
  tiny_pass(&t, t.g, "lower_mx");
  tt_graph *track = entry(&t, "track", "add_track"), *report = entry(&t, "track_report", "add_track_report");
  tt_tensor *vars = tiny_vars(&t);
  /* A window before, of other weights: keep = 0 must forget it. */
  tiny_eval(&t, track, inputs(&t, track, "keep", 0), vars);
  tiny_eval(&t, track, inputs(&t, track, "keep", 1), vars);
  for (int s = 0; s < STEPS; s++) {
    t.state = (uint32_t)s + 1;
    for (int k = 0; k < N; k++) {
      tt_tensor *w = &vars[tt_module_find_var(t.m, weights[k])];
      p[k].n = tt_type_count(&w->type);
      p[k].cols = w->type.dim[1];
      assert_true(p[k].n <= 512 && p[k].cols <= TT_MX_BLOCK);
      walk(&t, &p[k], w, s);
    }
    tiny_eval(&t, track, inputs(&t, track, "keep", s ? 1 : 0), vars);
  }
  tt_tensor *results = tiny_eval(&t, report, inputs(&t, report, "window", STEPS - 1), vars);
  for (int k = 0; k < N; k++) check_rows(report, results, p, k, k, k + 1);
  check_rows(report, results, p, N, 0, N);
  for (int k = 0; k < N; k++) check_peak(report, results, &p[k], k);
  const tt_tensor *hist = tiny_result(report, results, "track:confidence_hist");
  double sum = 0, all = 0;
  for (int b = 0; b < 20; b++) sum += hist->d[N * 20 + b];
  for (int k = 0; k < N; k++) all += (double)p[k].n;
  assert_true(sum == all);
  check_quantizers(&t, vars, tiny_result(report, results, "track:error")->d[N]);
  tiny_free(&t);
}

/* No quantizer: the moves of all linears' weights, and nothing about rounding. */
static void float_weights_move_alone(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tiny_vit(&t);
  tt_graph *track = entry(&t, "track", "add_track"), *report = entry(&t, "track_report", "add_track_report");
  assert_int_equal(tiny_count(track, TT_OP_LINEAR), 0); /* nothing of the forward is left */
  assert_int_equal(report->results.count, 2);
  tt_tensor *vars = tiny_vars(&t);
  tt_tensor *results = tiny_eval(&t, report, inputs(&t, report, "window", 1), vars);
  assert_int_equal(tiny_result(report, results, "track:elements")->type.dim[0], 7);
  tiny_free(&t);
}

/* |y - x| / |x|. */
static double relative_move(const tt_tensor *x, const tt_tensor *y) {
  double move = 0, norm = 0;
  for (int64_t i = 0; i < tt_type_count(&x->type); i++) {
    move += (y->d[i] - x->d[i]) * (y->d[i] - x->d[i]);
    norm += x->d[i] * x->d[i];
  }
  return sqrt(move / norm);
}

/* The block's output is what the final norm reads. Two pairs of looks, far apart: their mean, and what happened between the
 * pairs counts for nothing. */
static void follow_output(const char *recipe, const char *set) {
  tiny t;
  tiny_init(&t);
  tt_recipe *r = tt_recipe_load(recipe, TETRAC_SOURCE_DIR "/passes/recipes", set ? 1 : 0, &set, t.arena, &t.diag);
  assert_non_null(r);
  t.recipe = *r;
  tiny_vit(&t);
  tiny_pass(&t, t.g, "lower_mx");
  tt_graph *forward = tt_graph_clone(t.g, "run"), *g = tt_graph_clone(t.g, "track_output");
  TT_FOR_NODES(forward, n) /* the last one is the final norm */
  if (tt_nod(forward, n)->op == TT_OP_LAYERNORM) tt_graph_set_result(forward, "y", tt_nod(forward, n)->in[0]);
  tiny_pass(&t, forward, "lower_mx_mixed");
  static const char *const passes[] = {"add_track_output", "lower_mx_mixed", "opt_cse",
                                       "opt_dce",          "fuse_quantize",  "plan_memory"};
  for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
    tiny_pass(&t, g, passes[i]);
    if (strcmp(passes[i], "opt_dce") == 0)
      assert_int_equal(tiny_count(g, TT_OP_LAYERNORM), 2); /* the final norm lies behind the block */
  }
  assert_true(tt_plan_check(g, &t.diag));
  tt_tensor *vars = tiny_vars(&t), y[4];
  double want = 0;
  for (int look = 0; look < 4; look++) {
    y[look] = *tiny_result(forward, tiny_eval(&t, forward, tiny_inputs(&t, forward), vars), "y");
    if (look % 2) want += relative_move(&y[look - 1], &y[look]) / 2;
    tt_tensor *results = tiny_eval(&t, g, inputs(&t, g, "weight", look % 2 ? 2.0 / (look + 1) : 0), vars);
    if (look == 3) near(tiny_result(g, results, "rate_y"), 0, want);
    t.state = (uint32_t)look + 1;
    for (int k = 0; k < N; k++) {
      tt_tensor *w = &vars[tt_module_find_var(t.m, weights[k])];
      for (int64_t i = 0; i < tt_type_count(&w->type); i++) w->d[i] += (look == 1 ? 2 : 0.05) * tiny_random(&t);
    }
  }
  assert_true(want > 0.001 && want < 0.5);
  tiny_free(&t);
}

static void follows_a_blocks_output(void **state) {
  (void)state;
  follow_output("tetrajet", NULL);
  follow_output("fp32", NULL);
  follow_output("q1-only", "track.block=1");
}

static void an_output_that_is_not_there(void **state) {
  (void)state;
  tiny t;
  tiny_init(&t);
  tiny_vit(&t);
  t.recipe.track_block = 2;
  tt_graph *g = tt_graph_clone(t.g, "track_output");
  assert_int_equal(tiny_run(&t, g, tt_pass_find("add_track_output")->run), TT_PASS_FAILED);
  assert_non_null(strstr(t.diag.text, "track.block = 2, but the model has 1 block; name one of them, or last"));
  tiny_free(&t);
  tiny_init(&t);
  tt_value x = tt_graph_add_input(t.g, "images", tt_type_make(TT_F32, SHAPE(2, 8)));
  tt_graph_set_result(t.g, "logits", tiny_linear(&t, x, "w", "b", 3));
  tiny_pass(&t, t.g, "add_track_output");
  assert_int_equal(t.g->results.count, 0);
  tiny_free(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(follows_weights), cmocka_unit_test(float_weights_move_alone),
                                     cmocka_unit_test(follows_a_blocks_output), cmocka_unit_test(an_output_that_is_not_there)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
