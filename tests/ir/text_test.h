/* Text in, module out, for tests of the IR. */
#ifndef TEXT_TEST_H
#define TEXT_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "compiler/ir/text.h"
#include "compiler/ir/verify.h"

/* A module from text that must be sound. */
static inline tt_module *parse_ok(const char *text) {
  tt_diag diag;
  tt_diag_init(&diag, NULL);
  tt_module *m = tt_parse_module(text, "test.ttir", &diag);
  if (!m) fail_msg("does not parse:\n%s\n%s", text, diag.text);
  tt_diag_free(&diag);
  return m;
}

/* The diagnostics of text that must not parse; `errors` of them (-1: any number). Freed by the caller through diag. */
static inline void parse_bad(const char *text, int errors, tt_diag *diag) {
  tt_diag_init(diag, NULL);
  tt_module *m = tt_parse_module(text, "test.ttir", diag);
  if (m) fail_msg("parses, but should not:\n%s", text);
  if (errors >= 0 && diag->errors != errors) fail_msg("%d errors, expected %d:\n%s", diag->errors, errors, diag->text);
}

static inline void assert_says(const tt_diag *diag, const char *text) {
  if (!diag->text || !strstr(diag->text, text))
    fail_msg("nothing says: %s\nbut: %s", text, diag->text ? diag->text : "(nothing)");
}
#endif
