/* Diagnostics and asserts. */
#include "compiler/support/diag.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void tt_diag_init(tt_diag *diag, FILE *out) { *diag = (tt_diag){.out = out}; }

void tt_diag_free(tt_diag *diag) {
  free(diag->text);
  diag->text = NULL;
  diag->text_len = diag->text_cap = 0;
}

static void append(tt_diag *diag, const char *s, size_t n) {
  if (diag->out) {
    fwrite(s, 1, n, diag->out);
    return;
  }
  if (diag->text_len + n + 1 > diag->text_cap) {
    size_t cap = (diag->text_len + n + 1) * 2;
    char *text = realloc(diag->text, cap);
    if (!text) return;
    diag->text = text;
    diag->text_cap = cap;
  }
  memcpy(diag->text + diag->text_len, s, n);
  diag->text_len += n;
  diag->text[diag->text_len] = 0;
}

/* The message in at most `room` bytes and a NUL. A long name in it would leave no room for what is the matter with it, so that a
 * message without end loses its middle. Returns its length. */
static size_t put_message(char *to, size_t room, const char *fmt, va_list ap) {
  static const char gap[] = " ... ";
  va_list again;
  va_copy(again, ap);
  int k = vsnprintf(to, room + 1, fmt, ap);
  size_t n = k < 0 ? 0 : (size_t)k, head = room / 2, tail = room - head - (sizeof gap - 1);
  char *whole = n > room ? malloc(n + 1) : NULL;
  if (whole) {
    vsnprintf(whole, n + 1, fmt, again);
    memcpy(to + head, gap, sizeof gap - 1);
    memcpy(to + room - tail, whole + n - tail, tail + 1);
    free(whole);
  }
  va_end(again);
  return n < room ? n : room;
}

static void report(tt_diag *diag, tt_loc loc, const char *severity, const char *fmt, va_list ap) {
  enum { LONGEST = 1000 };
  char line[4096];
  size_t n = 0;
  const size_t room = sizeof line - 2;
#define PUT(...)                                                                                                           \
  do {                                                                                                                     \
    int k = snprintf(line + n, room - n, __VA_ARGS__);                                                                     \
    n += k < 0 ? 0 : (size_t)k < room - n ? (size_t)k : room - n - 1;                                                      \
  } while (0)
  /* A name without end would leave no room for what is the matter. */
#define PUT_NAME(before, name, after) PUT(before "%.*s%s" after, LONGEST, name, strlen(name) > LONGEST ? "..." : "")
  PUT_NAME("", loc.file ? loc.file : "tetrac", "");
  if (loc.line) PUT(":%d", loc.line);
  PUT(": ");
  if (loc.node && loc.node[0]) PUT_NAME("node '", loc.node, "'");
  if (loc.op) PUT(loc.node && loc.node[0] ? " (%s)" : "%s", loc.op);
  if ((loc.node && loc.node[0]) || loc.op) PUT(": ");
  PUT("%s: ", severity);
  n += put_message(line + n, room - n, fmt, ap);
#undef PUT_NAME
#undef PUT
  line[n++] = '\n';
  append(diag, line, n);
}

void tt_error(tt_diag *diag, tt_loc loc, const char *fmt, ...) {
  diag->errors++;
  if (diag->errors > TT_DIAG_MAX) {
    static const char more[] = "tetrac: note: more errors follow; mend these first\n";
    if (diag->errors == TT_DIAG_MAX + 1) append(diag, more, sizeof more - 1);
    return;
  }
  va_list ap;
  va_start(ap, fmt);
  report(diag, loc, "error", fmt, ap);
  va_end(ap);
}

void tt_diag_take(tt_diag *diag, const char *lines, size_t n) {
  diag->errors++;
  append(diag, lines, n);
}

void tt_warning(tt_diag *diag, tt_loc loc, const char *fmt, ...) {
  diag->warnings++;
  if (diag->warnings > TT_DIAG_MAX) return;
  va_list ap;
  va_start(ap, fmt);
  report(diag, loc, "warning", fmt, ap);
  va_end(ap);
}

void tt_note(tt_diag *diag, tt_loc loc, const char *fmt, ...) {
  if (diag->errors > TT_DIAG_MAX) return;
  va_list ap;
  va_start(ap, fmt);
  report(diag, loc, "note", fmt, ap);
  va_end(ap);
}

static const char *assert_pass, *assert_node;

void tt_assert_context(const char *pass, const char *node) {
  assert_pass = pass;
  assert_node = node;
}

_Noreturn void tt_assert_fail(const char *expr, const char *file, int line) {
  fprintf(stderr, "tetrac: internal error: %s:%d: %s", file, line, expr);
  if (assert_pass) fprintf(stderr, " (in %s", assert_pass);
  if (assert_pass && assert_node) fprintf(stderr, ", node '%s'", assert_node);
  fprintf(stderr, "%s\nThis is a fault of tetrac, not of your model.\n", assert_pass ? ")" : "");
  abort();
}
