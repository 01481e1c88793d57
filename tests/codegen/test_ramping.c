/* Adaptive ramping over a hundred steps in place, with periods that change under pending counts and gradients that are not
 * finite: weights, moments, sums and counts equal a plain C reference bit for bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "jit_case.h"

enum { ROWS = 45, COLS = 67, N = ROWS * COLS, STEPS = 100 };
enum { W, M, V, SUM, COUNT, PERIOD, N_VARS };

static const float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f, decay = 0.05f;

/* One weight as the method describes it; the rate, the clipping and the bias corrections are the step's. */
typedef struct element {
  float w, m, v, sum;
  int count, period;
} element;

static void reference(element *e, float g, float coef, float lr, float bc1, float bc2) {
  e->count++;
  if (isfinite(coef * g)) e->sum += coef * g;
  e->w = fmaf(-(lr * decay), e->w, e->w);
  if (e->count % e->period != 0) return;
  float mean = e->sum / (float)e->count, rate = lr * (float)e->count;
  e->m = fmaf(beta1, e->m, (float)(1 - 0.9) * mean);
  e->v = fmaf(beta2, e->v, (float)(1 - 0.999) * mean * mean);
  e->w -= e->m * (rate / bc1) / (sqrtf(e->v * (1 / bc2)) + epsilon);
  e->sum = 0;
  e->count = 0;
}

static tt_type matrix(void) { return tt_type_make(TT_F32, 2, (int64_t[]){ROWS, COLS}); }

/* Inputs g, coef, lr, bc1, bc2; everything else is state, updated where it lies. */
static tt_graph *build(tt_module *module, tt_diag *diag) {
  static const char *const vars[] = {"w", "m", "v", "sum", "count", "period"};
  static const char *const inputs[] = {"coef", "lr", "bc1", "bc2"};
  tt_graph *g = tt_graph_create(module, "train");
  tt_value in[11];
  for (uint32_t i = 0; i < N_VARS; i++) {
    tt_module_add_var(module, (tt_var){.name = vars[i], .type = matrix(), .role = TT_VAR_STATE, .copy_of = TT_NONE});
    in[i] = tt_graph_var(g, i);
    tt_vec_push(&module->var_offset, i * 12288);
  }
  module->vars_bytes = N_VARS * 12288;
  in[6] = tt_graph_add_input(g, "g", matrix());
  for (int i = 0; i < 4; i++) in[7 + i] = tt_graph_add_input(g, inputs[i], tt_type_scalar(TT_F32));
  tt_attr attrs[] = {tt_attr_float(TT_A_BETA1, 0.9), tt_attr_float(TT_A_BETA2, 0.999), tt_attr_float(TT_A_EPSILON, 1e-8),
                     tt_attr_float(TT_A_WEIGHT_DECAY, 0.05)};
  tt_builder b = {.g = g, .diag = diag, .at = TT_NONE};
  tt_node n = tt_build(&b, TT_OP_ADAMW_RAMP, 11, in, 4, attrs);
  assert_int_not_equal(n, TT_NONE);
  place_values(g);
  for (uint32_t i = 0; i < 5; i++) {
    tt_value out = tt_nod(g, n)->out[i];
    tt_graph_add_update(g, i, out);
    tt_val(g, out)->space = TT_SPACE_VARS;
    tt_val(g, out)->offset = i * 12288;
  }
  return g;
}

static double uniform(uint32_t *r, double lo, double hi) {
  return (double)(float)(lo + (hi - lo) * (double)(jit_random(r) % 65536) / 65536);
}

static void start(tt_arena *arena, tt_tensor *vars, element *e, uint32_t *r) {
  for (int k = 0; k < N_VARS; k++) vars[k] = tt_tensor_new(arena, matrix());
  for (int i = 0; i < N; i++) {
    vars[W].d[i] = uniform(r, -1, 1);
    e[i] = (element){.w = (float)vars[W].d[i], .period = 1};
  }
}

/* What a calibration does: periods of one step and of several, up to more than the run has; 0 stands for 1. */
static void new_periods(tt_tensor *period, element *e, uint32_t *r) {
  for (int i = 0; i < N; i++) {
    int n = jit_random(r) % 3 ? 1 + 5 * (int)(jit_random(r) % 25) : (int)(jit_random(r) % 2);
    period->d[i] = n;
    e[i].period = n ? n : 1;
  }
}

static void expect_bits(const tt_tensor *got, int i, float want, const char *what, int step) {
  float x = (float)got->d[i];
  if (memcmp(&x, &want, sizeof x) != 0)
    fail_msg("step %d: %s of element %d is %a, expected %a", step, what, i, (double)x, (double)want);
}

static void check_all(const tt_tensor *vars, const element *e, int step) {
  for (int i = 0; i < N; i++) {
    expect_bits(&vars[W], i, e[i].w, "weight", step);
    expect_bits(&vars[M], i, e[i].m, "first moment", step);
    expect_bits(&vars[V], i, e[i].v, "second moment", step);
    expect_bits(&vars[SUM], i, e[i].sum, "sum", step);
    expect_bits(&vars[COUNT], i, (float)e[i].count, "count", step);
  }
}

/* Fills the inputs of a step and lets the reference take it. */
static void take_step(tt_tensor *in, element *e, int step, uint32_t *r) {
  in[1].d[0] = uniform(r, 0.1, 1);
  in[2].d[0] = (double)(float)(0.01 * (1 - step / 200.0));
  in[3].d[0] = (double)(float)(1 - pow(0.9, step + 1));
  in[4].d[0] = (double)(float)(1 - pow(0.999, step + 1));
  for (int i = 0; i < N; i++) {
    float g = (float)uniform(r, -0.2, 0.2);
    if (jit_random(r) % 211 == 0) g = step % 2 ? NAN : -INFINITY;
    in[0].d[i] = (double)g;
    reference(&e[i], g, (float)in[1].d[0], (float)in[2].d[0], (float)in[3].d[0], (float)in[4].d[0]);
  }
}

static void run(const char *name, int threads) {
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  tt_module *module = tt_module_create("test");
  tt_graph *g = build(module, &diag);
  cg_jit *jit = cg_jit_compile(g, cg_target_find(name, arena, &diag), &diag);
  assert_non_null(jit);
  assert_true(trt_threads_init(threads, cg_jit_scratch_bytes(jit)));
  tt_tensor vars[N_VARS], in[5];
  element *e = TT_NEW_N(arena, element, N);
  uint32_t r = 17;
  start(arena, vars, e, &r);
  in[0] = tt_tensor_new(arena, matrix());
  for (int i = 1; i < 5; i++) in[i] = tt_tensor_new(arena, tt_type_scalar(TT_F32));
  for (int step = 0; step < STEPS; step++) {
    if (step == 5 || step == 41 || step == 78) new_periods(&vars[PERIOD], e, &r);
    take_step(in, e, step, &r);
    cg_jit_run(jit, in, vars, NULL, arena);
    check_all(vars, e, step);
  }
  cg_jit_destroy(jit);
  tt_module_destroy(module);
  tt_diag_free(&diag);
  tt_arena_destroy(arena);
}

static void a_hundred_steps_bit_for_bit(void **state) {
  (void)state;
  for (const char *const *name = jit_targets(); *name; name++)
    for (int threads = 1; threads <= 2; threads++) run(*name, threads);
}

/* With periods of 1 nothing but adamw is left, to the bit: what the recipe does before its first calibration. */
static void period_one_is_adamw(void **state) {
  (void)state;
  element e = {.w = 0.7f, .period = 1};
  float w = e.w, m = 0, v = 0;
  for (int step = 0; step < 50; step++) {
    float g = sinf((float)step), lr = 0.01f, bc1 = (float)(1 - pow(0.9, step + 1)), bc2 = (float)(1 - pow(0.999, step + 1));
    reference(&e, g, 0.5f, lr, bc1, bc2);
    m = fmaf(beta1, m, (float)(1 - 0.9) * (0.5f * g));
    v = fmaf(beta2, v, (float)(1 - 0.999) * (0.5f * g) * (0.5f * g));
    w = fmaf(-(lr * decay), w, w) - m * (lr / bc1) / (sqrtf(v * (1 / bc2)) + epsilon);
    assert_true(e.w == w && e.m == m && e.v == v && e.count == 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_hundred_steps_bit_for_bit), cmocka_unit_test(period_one_is_adamw)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
