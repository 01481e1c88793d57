/* Diagnostics. User errors become one line each, `FILE: node 'NAME' (OP): error: TEXT`, at most TT_DIAG_MAX a phase so
 * that all faults of a phase are seen at once. Broken invariants are TT_ASSERT, on in every build. */
#ifndef TT_DIAG_H
#define TT_DIAG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TT_DIAG_MAX = 20 };

/* Where something comes from. Any member may be NULL / 0. Strings live as long as the thing that holds the location. */
typedef struct tt_loc {
  const char *file; /* model or .ttir file */
  const char *node; /* ONNX node name */
  const char *op;   /* ONNX or IR op name */
  int line;         /* of text input, 1-based */
} tt_loc;

typedef struct tt_diag {
  FILE *out;  /* where lines go; NULL collects them in `text` */
  char *text; /* heap, NUL-terminated collected lines; NULL where none */
  size_t text_len, text_cap;
  int errors; /* all, also those past TT_DIAG_MAX, which are not printed */
  int warnings;
} tt_diag;

void tt_diag_init(tt_diag *diag, FILE *out);
void tt_diag_free(tt_diag *diag);
void tt_error(tt_diag *diag, tt_loc loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void tt_warning(tt_diag *diag, tt_loc loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void tt_note(tt_diag *diag, tt_loc loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Passes on, as they are, the lines that the diag of another process collected; counts as one error. */
void tt_diag_take(tt_diag *diag, const char *lines, size_t n);

/* Context that a failing assert prints: the running pass and the node it looks at. Either may be NULL. */
void tt_assert_context(const char *pass, const char *node);
_Noreturn void tt_assert_fail(const char *expr, const char *file, int line);
#define TT_ASSERT(e) ((e) ? (void)0 : tt_assert_fail(#e, __FILE__, __LINE__))

/* Forwards failure of a bool-returning call. */
#define TT_TRY(e)                                                                                                          \
  do {                                                                                                                     \
    if (!(e)) return false;                                                                                                \
  } while (0)
#endif
