/* Q-Ramping's periods, as generated code finds them: the trajectory of every quantized weight is recorded over a
 * calibration, and the periods of a plain reference computed from it alone must be those of the compiled graphs, bit for
 * bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "compiler/driver/compile.h"
#include "models/models.h"
#include "passes/plan_memory.h"
#include "runtime/include/trt_runtime.h"

enum { STEPS = 40, MOST = 17, BATCH = 4 };

/* The 4-bit value of one element of a block whose largest magnitude is `most`: the nearest of the grid, by trying all. */
static float four_bit(float x, float most) {
  static const float grid[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  if (most == 0) return 0;
  int e = -126;
  while (ldexp(6, e) < (double)most) e++;
  double y = fabs(ldexp((double)x, -e));
  int best = 0;
  for (int i = 1; i < 8; i++) {
    double better = fabs(y - (double)grid[best]) - fabs(y - (double)grid[i]);
    if (better > 0 || (better == 0 && i % 2 == 0)) best = i;
  }
  return copysignf(ldexpf(grid[best], e), x);
}

static void quantize(const float *w, int64_t rows, int64_t cols, float *out) {
  for (int64_t first = 0; first < rows * cols; first++) {
    int64_t col = first % cols, n = cols - col < 32 ? cols - col : 32;
    if (col % 32) continue;
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(w[first + i]));
    for (int64_t i = 0; i < n; i++) out[first + i] = four_bit(w[first + i], most);
  }
}

/* Periods from the values w[0..STEPS] of a weight, each rows x cols. */
static void reference(float *const *w, int64_t rows, int64_t cols, float *period) {
  int64_t n = rows * cols;
  float *q[2] = {malloc(sizeof(float) * (size_t)n), malloc(sizeof(float) * (size_t)n)};
  float *way = calloc((size_t)n, sizeof *way), *qway = calloc((size_t)n, sizeof *qway);
  quantize(w[0], rows, cols, q[0]);
  for (int t = 1; t <= STEPS; t++) {
    quantize(w[t], rows, cols, q[t % 2]);
    for (int64_t i = 0; i < n; i++) {
      way[i] += fabsf(w[t][i] - w[t - 1][i]);
      qway[i] += fabsf(q[t % 2][i] - q[(t - 1) % 2][i]);
    }
  }
  for (int64_t i = 0; i < n; i++) {
    float ratio = qway[i] / (way[i] + 1e-8f);
    period[i] = fminf(5 * floorf(ratio / 16) + 1, MOST);
  }
  free(q[0]);
  free(q[1]);
  free(way);
  free(qway);
}

typedef struct fixture {
  tt_session s;
  char path[32]; /* of the model */
} fixture;

static int setup(void **state) {
  fixture *f = *state = test_calloc(1, sizeof *f);
  strcpy(f->path, "/tmp/tetrac-calibration-XXXXXX");
  int fd = mkstemp(f->path);
  assert_true(fd >= 0);
  tt_model_options o = {.image = 14, .patch = 7, .channels = 1, .classes = 5, .dim = 40, .depth = 1, .heads = 2, .seed = 3};
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  uint8_t *data;
  size_t bytes;
  tt_diag_init(&diag, stderr);
  assert_true(tt_model_build(&o, arena, &data, &bytes, &diag));
  assert_int_equal(write(fd, data, bytes), bytes);
  close(fd);
  tt_request r = {.model = f->path, .recipe = TETRAC_SOURCE_DIR "/passes/recipes/tetrajet-qramping.ini", .batch = BATCH};
  setenv("TETRAC_RECIPES", TETRAC_SOURCE_DIR "/passes/recipes", 1);
  assert_true(tt_session_open(&f->s, &r, true));
  tt_diag_free(&diag);
  tt_arena_destroy(arena);
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  tt_session_close(&f->s);
  unlink(f->path);
  test_free(f);
  return 0;
}

/* The inputs of one step: a rate that lets some weights go to and fro across a threshold, random images, everything else as
 * at step t. */
static void fill_inputs(const tt_graph *g, tt_tensor *in, int t, uint32_t *seed) {
  for (size_t i = 0; i < g->inputs.count; i++) {
    const char *name = tt_val(g, g->inputs.data[i])->name;
    for (int64_t k = 0; k < tt_type_count(&in[i].type); k++) {
      *seed = *seed * 1664525u + 1013904223u;
      double random = (double)(*seed >> 8) / (1 << 23) - 1;
      if (strcmp(name, "lr") == 0)
        in[i].d[k] = 5e-5;
      else if (strcmp(name, "bc1") == 0)
        in[i].d[k] = 1 - pow(0.9, t + 1);
      else if (strcmp(name, "bc2") == 0)
        in[i].d[k] = 1 - pow(0.999, t + 1);
      else if (strcmp(name, "rng") == 0)
        in[i].d[k] = k ? t : 11;
      else if (strcmp(name, "labels") == 0)
        in[i].d[k] = *seed >> 8 & 3;
      else
        in[i].d[k] = (double)(float)random;
    }
  }
}

static tt_tensor *new_inputs(tt_session *s, const tt_graph *g) {
  tt_tensor *in = TT_NEW_N(s->arena, tt_tensor, g->inputs.count);
  for (size_t i = 0; i < g->inputs.count; i++) in[i] = tt_tensor_new(s->arena, *tt_typ(g, g->inputs.data[i]));
  return in;
}

static cg_jit *compile(tt_session *s, const char *name, const tt_graph **g) {
  *g = tt_module_find_graph(s->module, name);
  assert_non_null(*g);
  cg_jit *jit = cg_jit_compile(*g, cg_target_find("cpu", s->arena, &s->diag), &s->diag);
  assert_non_null(jit);
  assert_true(trt_threads_init(2, cg_jit_scratch_bytes(jit)));
  return jit;
}

/* w[t][v]: var v after t steps of entry "calibrate". */
static void calibrate(tt_session *s, tt_tensor *vars, float *(*w)[STEPS + 1]) {
  const tt_graph *g;
  cg_jit *jit = compile(s, "calibrate", &g);
  tt_tensor *in = new_inputs(s, g), *results = TT_NEW_N(s->arena, tt_tensor, g->results.count);
  uint32_t seed = 5;
  for (int t = 0; t <= STEPS; t++) {
    for (size_t v = 0; v < s->module->vars.count; v++) {
      w[v][t] = tt_arena_alloc(s->arena, tt_type_bytes(&vars[v].type));
      tt_tensor_to_bytes(&vars[v], w[v][t]);
    }
    if (t == STEPS) break;
    fill_inputs(g, in, t, &seed);
    cg_jit_run(jit, in, vars, results, s->arena);
  }
  cg_jit_destroy(jit);
}

static void periods_follow_from_the_trajectory(void **state) {
  fixture *f = *state;
  tt_session *s = &f->s;
  size_t n_vars = s->module->vars.count;
  tt_tensor *vars = TT_NEW_N(s->arena, tt_tensor, n_vars);
  float *(*w)[STEPS + 1] = tt_arena_alloc(s->arena, sizeof *w * n_vars);
  for (size_t v = 0; v < n_vars; v++) vars[v] = tt_var_initial(s->arena, s->module, (uint32_t)v);
  calibrate(s, vars, w);
  const tt_graph *g;
  cg_jit *jit = compile(s, "ramp", &g);
  tt_tensor most = tt_tensor_new(s->arena, tt_type_scalar(TT_F32));
  tt_tensor *results = TT_NEW_N(s->arena, tt_tensor, g->results.count);
  most.d[0] = MOST;
  cg_jit_run(jit, &most, vars, results, s->arena);
  assert_int_equal(g->results.count, 4); // qkv, proj, fc1, fc2
  int longer = 0, most_long = 0;
  for (size_t i = 0; i < g->results.count; i++) {
    uint32_t v = tt_module_find_var(s->module, g->results.data[i].name + strlen("ramp-period:"));
    assert_true(v != TT_NONE && tt_module_find_var(s->module, g->results.data[i].name) != TT_NONE);
    const tt_type *type = &s->module->vars.data[v].type;
    float *want = tt_arena_alloc(s->arena, tt_type_bytes(type));
    reference(w[v], type->dim[0], type->dim[1], want);
    for (int64_t k = 0; k < tt_type_count(type); k++) {
      if ((float)results[i].d[k] != want[k])
        fail_msg("%s, element %lld: %g, expected %g", g->results.data[i].name, (long long)k, results[i].d[k],
                 (double)want[k]);
      longer += want[k] > 1;
      most_long += want[k] == MOST;
    }
  }
  assert_true(longer > 50 && most_long > 0); // the comparison is of something
  cg_jit_destroy(jit);
}

/* Distances are read across in-place updates: nothing may read a weight that was overwritten, nothing share live bytes. */
static void plans_hold(void **state) {
  fixture *f = *state;
  tt_session *s = &f->s;
  static const char *const entries[] = {"train", "calibrate", "ramp"};
  for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) assert_non_null(tt_module_find_graph(s->module, entries[i]));
  for (size_t i = 0; i < s->module->graphs.count; i++) {
    const tt_graph *g = s->module->graphs.data[i]; // all but the one that the others are clones of
    if (strcmp(g->name, "forward") != 0 && !tt_plan_check(g, &s->diag)) fail_msg("graph '%s'", g->name);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(periods_follow_from_the_trajectory, setup, teardown),
                                     cmocka_unit_test_setup_teardown(plans_hold, setup, teardown)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
