/* Fusion of quantizers with what makes their operands: a training step means the same before and after, to the bit, for
 * recipes that quantize gradients, that quantize twice and that quantize only some operands. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "compiler/ir/eval.h"
#include "compiler/ir/fused.h"
#include "compiler/ir/verify.h"
#include "passes/pass.h"
#include "passes/plan_memory.h"
#include "tests/passes/tiny.h"

static void build_step(tiny *t, const char *recipe) {
  static const char *const passes[] = {"lower_mx", "add_loss", "autodiff", "lower_mx_mixed", "opt_cse", "opt_dce"};
  tiny_init(t);
  const tt_recipe *loaded = tt_recipe_load(recipe, TETRAC_SOURCE_DIR "/passes/recipes", 0, NULL, t->arena, &t->diag);
  assert_non_null(loaded);
  t->recipe = *loaded;
  tiny_vit(t);
  for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) tiny_pass(t, t->g, passes[i]);
}

static void expect_equal(const tt_graph *g, const tt_tensor *a, const tt_tensor *b) {
  for (size_t i = 0; i < g->results.count; i++)
    for (int64_t k = 0; k < tt_type_count(&a[i].type); k++)
      if (a[i].d[k] != b[i].d[k]) fail_msg("%s[%d] changed", g->results.data[i].name, (int)k);
}

/* Returns the number of sweeps made. */
static int fuse(tiny *t, const char *recipe) {
  build_step(t, recipe);
  tt_graph *before = tt_graph_clone(t->g, "before");
  tt_pass_result said = tiny_run(t, t->g, tt_pass_find("fuse_quantize")->run);
  int n = tiny_count(t->g, TT_OP_MX_FUSED);
  assert_int_equal(said, n ? TT_PASS_CHANGED : TT_PASS_UNCHANGED);
  assert_int_equal(tiny_run(t, t->g, tt_pass_find("fuse_quantize")->run), TT_PASS_UNCHANGED);
  tt_tensor *in = tiny_inputs(t, t->g);
  expect_equal(t->g, tiny_eval(t, before, in, NULL), tiny_eval(t, t->g, in, NULL));
  return n;
}

static void training_step(void **state) {
  (void)state;
  tiny t;
  /* Forward: both norms and GELU; backward: the last norm, GELU, the second norm with its residual add, attention. */
  assert_int_equal(fuse(&t, "tetrajet"), 7);
  assert_int_equal(tiny_count(t.g, TT_OP_MX_COLSUM), 0);
  assert_int_equal(tiny_count(t.g, TT_OP_GELU) + tiny_count(t.g, TT_OP_GELU_GRAD), 0);
  int last = 0;
  TT_FOR_NODES(t.g, n) {
    if (tt_nod(t.g, n)->op != TT_OP_MX_FUSED) continue;
    tt_fused f = tt_fused_of(t.g, n);
    if (f.out_t >= 0) assert_true(f.colsum >= 0); /* every gradient: both forms and the sums for the bias */
    last = f.n_steps;
  }
  assert_int_equal(last, 0); /* attention's gradient, the last that is quantized */
  tiny_free(&t);
}

/* With Q6 from the unquantized operand, GELU's output would live from forward to backward: now its two forms do. */
static void direct_operands(void **state) {
  (void)state;
  tiny t;
  assert_true(fuse(&t, "microscaling") >= 7);
  bool both = false;
  TT_FOR_NODES(t.g, n) {
    if (tt_nod(t.g, n)->op != TT_OP_MX_FUSED) continue;
    tt_fused f = tt_fused_of(t.g, n);
    if (f.n_steps == 1 && f.step[0].op == TT_OP_GELU) both = f.out_q >= 0 && f.out_t >= 0 && !f.step[0].keep;
  }
  assert_true(both);
  tiny_free(&t);
}

static void some_quantizers(void **state) {
  (void)state;
  static const char *const recipes[] = {"q1-only", "q2-only", "q3-only", "q5-only", "q6-only", "e3m0-both"};
  for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
    tiny t;
    fuse(&t, recipes[i]);
    tiny_free(&t);
  }
}

/* Without a quantizer products lead, but not of few rows (fuse_quantize_floats.case has many). */
static void no_quantizers(void **state) {
  (void)state;
  tiny t;
  assert_int_equal(fuse(&t, "fp32"), 0);
  tiny_free(&t);
}

/* What only quantizers read is not in the plan. */
static void memory(void **state) {
  (void)state;
  tiny t;
  build_step(&t, "tetrajet");
  uint64_t before = tt_plan_unshared_bytes(t.g);
  tiny_pass(&t, t.g, "fuse_quantize");
  /* Two norms [10,8], GELU and its gradient [10,16], a norm's gradient [10,8]; buffers are multiples of 64 bytes. */
  assert_true(before - tt_plan_unshared_bytes(t.g) >= 4 * 10 * (3 * 8 + 2 * 16));
  tiny_free(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(training_step), cmocka_unit_test(direct_operands),
                                     cmocka_unit_test(some_quantizers), cmocka_unit_test(no_quantizers),
                                     cmocka_unit_test(memory)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
