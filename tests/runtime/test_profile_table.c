/* Rows of a profile's table are told apart by whole names, however long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "runtime/src/profile.h"

enum { LAUNCHES = 4 };

static int rows_with(const char *table, const char *text) {
  int n = 0;
  for (const char *at = strstr(table, text); at; at = strstr(at + 1, text)) n++;
  return n;
}

static void test_long_names(void **state) {
  (void)state;
  static const char path[] = "/model/encoder/layers/a_folder_of_a_long_name_that_an_exporter_made/of/modules/in/modules/";
  char first[200], second[200];
  snprintf(first, sizeof first, "%sattention/MatMul_0", path);
  snprintf(second, sizeof second, "%sattention/MatMul_1", path);
  const trt_launch launches[LAUNCHES] = {
      {.node = first, .op = "matmul", .kernel = "", .f32_macs = 1e6, .bytes_read = 1},
      {.node = second, .op = "matmul", .kernel = "", .f32_macs = 1e6, .bytes_read = 1},
      {.node = first, .op = "matmul", .kernel = "", .f32_macs = 1e6, .bytes_read = 1},
      {.node = "head", .op = "linear", .kernel = "", .f32_macs = 1e6, .bytes_read = 1},
  };
  float times[LAUNCHES] = {1e-3f, 2e-3f, 4e-3f, 8e-3f};
  trt_frame frame = {.run = 0, .end = 15000000};
  trt_entry entry = {.launches = launches, .n_launches = LAUNCHES};
  trt_program program = {.model = "m", .target = "t"};
  trt_profile p = {.program = &program, .entry = &entry, .by = TRT_BY_NODE, .threads = 1, .launches = LAUNCHES, .steps = 1,
                   .done = 1, .frames = &frame, .seconds = times, .busy = times};
  trt_text all = {0}, head = {0};
  trt_profile_table(&p, &all, &head);
  assert_int_equal(rows_with(all.data, "| matmul /model/encoder/"), 2);
  assert_non_null(strstr(all.data, "attention/MatMul_0 |     2 |     5.000 |"));
  assert_non_null(strstr(all.data, "attention/MatMul_1 |     1 |     2.000 |"));
  assert_non_null(strstr(all.data, "| linear head "));
  free(all.data);
  free(head.data);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_long_names)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
