/* The op sweep for AArch64, cross-compiled and run under qemu-user: MX results are the evaluator's bit for bit, float32 ones
 * within the same bounds as on x86. The emulated cores have just what the target promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "tests/ops/part.h"
#include "tests/ops/sweep.h"

/* False where it cannot run here. What is the same code on the level `like` is left to the test that sweeps that. */
static bool open_target(sweep *s, const char *spec, const char *core, const char *like) {
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  *s = (sweep){.random = 1, .target_arena = tt_arena_create()};
  s->target = cg_target_find(spec, s->target_arena, &diag);
  s->like = like ? cg_target_find(like, s->target_arena, &diag) : NULL;
  tt_diag_free(&diag);
  assert_non_null(s->target);
  s->foreign = cg_target_cross(s->target) ? foreign_open(s->target, core) : NULL;
  return s->foreign != NULL;
}

static void close_target(sweep *s) {
  sweep_finish(s);
  foreign_close(s->foreign);
  tt_arena_destroy(s->target_arena);
  assert_int_equal(s->failures, 0);
}

static void whole_dotprod(void **state) {
  (void)state;
  sweep s;
  assert_true(open_target(&s, "aarch64", "cortex-a76", NULL));
  sweep_all(&s);
  close_target(&s);
}

/* Without the dot product only the products differ. */
static void like_v8(void **state) {
  (void)state;
  sweep s;
  assert_true(open_target(&s, "aarch64:v8", "cortex-a53", "aarch64"));
  sweep_mx(&s);
  sweep_int4(&s);
  close_target(&s);
}

/* Nor with smmla; no emulated core has that but the one that has everything. */
static void like_i8mm(void **state) {
  (void)state;
  sweep s;
  assert_true(open_target(&s, "aarch64:i8mm", "max", "aarch64"));
  sweep_mx(&s);
  close_target(&s);
}

int main(int argc, char **argv) {
  sweep s;
  if (!open_target(&s, "aarch64", "max", NULL)) return PART_SKIPPED;
  foreign_close(s.foreign);
  tt_arena_destroy(s.target_arena);
  const struct CMUnitTest tests[] = {cmocka_unit_test(whole_dotprod), cmocka_unit_test(like_v8), cmocka_unit_test(like_i8mm)};
  if (argc > 1 && !part_select(tests, sizeof tests / sizeof *tests, argv[1])) return PART_SKIPPED;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
