/* A test program that ctest runs in several parts (tests/CMakeLists.txt), each with a pattern of tests' names. */
#ifndef PART_H
#define PART_H
#include <fnmatch.h>
#include <stdbool.h>
#include <string.h>
#include <cmocka.h>
#include "compiler/support/diag.h"

enum { PART_SKIPPED = 77 };

static inline bool part_has(const char *patterns, const char *name) {
  char all[256], *rest = all;
  TT_ASSERT(strlen(patterns) < sizeof all);
  strcpy(all, patterns);
  for (char *p; (p = strtok_r(rest, " ", &rest));)
    if (fnmatch(p, name, 0) == 0) return true;
  return false;
}

/* Leaves the tests whose names match to be run. False if there are none, and the program is to end as skipped: cmocka would run
 * nothing and be content. Asserts that every test is in a part (TEST_PARTS, which are ctest's). */
static inline bool part_select(const struct CMUnitTest *tests, size_t n, const char *pattern) {
  bool any = false;
  for (size_t i = 0; i < n; i++) {
    TT_ASSERT(part_has(TEST_PARTS, tests[i].name));
    any |= part_has(pattern, tests[i].name);
  }
  cmocka_set_test_filter(pattern);
  return any;
}
#endif
