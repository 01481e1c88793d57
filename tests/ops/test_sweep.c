/* Every op row with an emit rule, generated code against the evaluator; a row nobody wrote a case for fails. Levels
 * whose code is mostly that of another with LLVM's same CPU are called like_*; tests/CMakeLists.txt runs whole ones and these
 * side by side, by the names that an argument matches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/ops/part.h"
#include "tests/ops/sweep.h"

static const struct {
  const char *op, *emit;
} rows[] = {
#define TT_OP(id, name, lo, hi, n, flags, shape, eval, grad, emit, work) {name, #emit},
#include "compiler/ir/ops.def"
#undef TT_OP
};

/* Every case, or those of MX alone: levels that differ from another in nothing but the dot product. What is the same code on
 * the level `like`, which another test sweeps, is left to that. */
static void sweep_target(const char *spec, bool all, const char *like) {
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  sweep s = {.random = 1, .target_arena = tt_arena_create()};
  s.target = cg_target_find(spec, s.target_arena, &diag);
  s.like = like ? cg_target_find(like, s.target_arena, &diag) : NULL;
  assert_non_null(s.target);
  if (s.like && !cg_target_runs_here(s.like)) s.like = NULL; /* nothing sweeps that here */
  if (!cg_target_runs_here(s.target)) {
    fprintf(stderr, "SKIP: this machine has not all of %s\n", spec);
    tt_arena_destroy(s.target_arena);
    skip();
  }
  if (all)
    sweep_all(&s);
  else
    sweep_mx(&s), sweep_int4(&s);
  for (int i = 0; all && i < TT_OP_COUNT; i++)
    if (strcmp(rows[i].emit, "none") != 0 && !s.seen[i]) {
      fprintf(stderr, "FAIL op '%s' has generated code (%s) and no case\n", rows[i].op, rows[i].emit);
      s.failures++;
    }
  sweep_finish(&s);
  tt_arena_destroy(s.target_arena);
  tt_diag_free(&diag);
  assert_int_equal(s.failures, 0);
}

static void whole_host(void **state) { (void)state, sweep_target("cpu", true, NULL); }
#if defined(__x86_64__)
static void whole_v3(void **state) { (void)state, sweep_target("cpu:v3", true, NULL); }
static void like_v3_vnni(void **state) { (void)state, sweep_target("cpu:v3+avxvnni", false, "cpu:v3"); }
static void whole_v4(void **state) { (void)state, sweep_target("cpu:v4", true, NULL); }
static void like_float_tiles(void **state) { (void)state, sweep_target("cpu:v4+amx-tile+amx-int8+amx-bf16", true, "cpu:v4"); }
static void like_v4_madd(void **state) { (void)state, sweep_target("cpu:v4-avx512vnni", false, "cpu:v4"); }
#endif

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(whole_host),
#if defined(__x86_64__)
      cmocka_unit_test(whole_v3), cmocka_unit_test(whole_v4), cmocka_unit_test(like_v3_vnni), cmocka_unit_test(like_v4_madd),
      cmocka_unit_test(like_float_tiles),
#endif
  };
  if (argc > 1 && !part_select(tests, sizeof tests / sizeof *tests, argv[1])) return PART_SKIPPED;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
