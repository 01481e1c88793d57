/* The op sweep for AArch64, cross-compiled and run under qemu-user: MX results are the evaluator's bit for bit, float32 ones
 * within the same bounds as on x86. The emulated cores have just what the target promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "tests/ops/sweep.h"

enum { SKIPPED = 77 };

/* False where it cannot run here. */
static bool open_target(sweep *s, const char *spec, const char *core) {
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  *s = (sweep){.random = 1, .target_arena = tt_arena_create()};
  s->target = cg_target_find(spec, s->target_arena, &diag);
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

static void test_dotprod(void **state) {
  (void)state;
  sweep s;
  assert_true(open_target(&s, "aarch64", "cortex-a76"));
  sweep_all(&s);
  close_target(&s);
}

/* Without the dot product only the products differ. */
static void test_v8(void **state) {
  (void)state;
  sweep s;
  assert_true(open_target(&s, "aarch64:v8", "cortex-a53"));
  sweep_mx(&s);
  sweep_int4(&s);
  close_target(&s);
}

/* Nor with smmla; no emulated core has that but the one that has everything. */
static void test_i8mm(void **state) {
  (void)state;
  sweep s;
  assert_true(open_target(&s, "aarch64:i8mm", "max"));
  sweep_mx(&s);
  close_target(&s);
}

int main(void) {
  sweep s;
  if (!open_target(&s, "aarch64", "max")) return SKIPPED;
  foreign_close(s.foreign);
  tt_arena_destroy(s.target_arena);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_dotprod), cmocka_unit_test(test_v8), cmocka_unit_test(test_i8mm)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
