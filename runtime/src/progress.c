#include "progress.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAR = 24 };

void trt_progress_start(trt_progress *p) {
  const char *kind = getenv("TERM");
  *p = (trt_progress){.terminal = isatty(STDERR_FILENO) && kind && strcmp(kind, "dumb") != 0};
}

bool trt_progress_due(const trt_progress *p) { return p->terminal && trt_now() - p->drawn_at > 0.1; }

void trt_progress_bar(trt_progress *p, const char *label, int64_t done, int64_t total, const char *text) {
  if (!p->terminal) return;
  char bar[BAR + 1];
  int64_t full = total > 0 ? done * BAR / total : 0;
  for (int i = 0; i < BAR; i++) bar[i] = i < full ? '#' : '.';
  bar[BAR] = 0;
  fprintf(stderr, "\r%s [%s] %" PRId64 "/%" PRId64 "  %s\033[K", label, bar, done, total, text);
  fflush(stderr);
  p->drawn = true;
  p->drawn_at = trt_now();
}

void trt_progress_clear(trt_progress *p) {
  if (p->drawn) fputs("\r\033[K", stderr);
  p->drawn = false;
}

void trt_progress_line(trt_progress *p, const char *format, ...) {
  va_list args;
  trt_progress_clear(p);
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  fflush(stderr);
}

const char *trt_progress_time(double seconds, char *out) {
  int64_t s = seconds > 0 ? (int64_t)(seconds + 0.5) : 0, hours = s / 3600;
  if (hours > 999)
    snprintf(out, 16, "long");
  else if (hours > 0)
    snprintf(out, 16, "%d:%02d:%02d", (int)hours, (int)(s / 60 % 60), (int)(s % 60));
  else
    snprintf(out, 16, "%d:%02d", (int)(s / 60), (int)(s % 60));
  return out;
}
