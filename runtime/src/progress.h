/* Talk on stderr: a bar that redraws itself on a terminal, plain lines in a pipe. */
#ifndef TRT_PROGRESS_H
#define TRT_PROGRESS_H
#include "support.h"

typedef struct trt_progress {
  bool terminal;
  bool drawn; /* a bar is on the line */
  double drawn_at;
} trt_progress;

void trt_progress_start(trt_progress *progress);
/* True when a bar would be drawn now (a terminal, and a tenth of a second since the last): ask before composing one. */
bool trt_progress_due(const trt_progress *progress);
/* Draws `done` of `total` as a bar with `label` before and `text` after it; nothing in a pipe. */
void trt_progress_bar(trt_progress *progress, const char *label, int64_t done, int64_t total, const char *text);
/* Prints a line that stays. */
void trt_progress_line(trt_progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Removes the bar, before other output. */
void trt_progress_clear(trt_progress *progress);
/* "1:02:03" or "2:03" into out[16]. */
const char *trt_progress_time(double seconds, char *out);
#endif
