/* Every op row with an emit rule, generated code against the evaluator; a row nobody wrote a case for fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/ops/sweep.h"

static const struct {
  const char *op, *emit;
} rows[] = {
#define TT_OP(id, name, lo, hi, n, flags, shape, eval, grad, emit, work) {name, #emit},
#include "compiler/ir/ops.def"
#undef TT_OP
};

static void sweep_target(const char *spec) {
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  sweep s = {.random = 1, .target_arena = tt_arena_create()};
  s.target = cg_target_find(spec, s.target_arena, &diag);
  assert_non_null(s.target);
  sweep_elementwise(&s);
  sweep_move(&s);
  sweep_reduce(&s);
  sweep_rows(&s);
  sweep_attention(&s);
  sweep_optimizer(&s);
  sweep_products(&s);
  sweep_mx(&s);
  sweep_int4(&s);
  sweep_track(&s);
  for (int i = 0; i < TT_OP_COUNT; i++)
    if (strcmp(rows[i].emit, "none") != 0 && !s.seen[i]) {
      fprintf(stderr, "FAIL op '%s' has generated code (%s) and no case\n", rows[i].op, rows[i].emit);
      s.failures++;
    }
  fprintf(stderr, "%s: %d cases, %d failures\n", cg_target_describe(s.target), s.cases, s.failures);
  tt_arena_destroy(s.target_arena);
  tt_diag_free(&diag);
  assert_int_equal(s.failures, 0);
}

/* The host's own features, and plain AVX2, which every machine this runs on has. */
static void test_host(void **state) { (void)state, sweep_target("cpu"); }
static void test_v3(void **state) { (void)state, sweep_target("cpu:v3"); }

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_host), cmocka_unit_test(test_v3)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
