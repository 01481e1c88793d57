#include "metrics.h"
#include "file.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char csv_head[] = "step,epoch,loss,lr,grad_norm,images_per_s,test_loss,test_acc\n";

static bool put(trt_metrics *m, int which, const char *text, size_t n, trt_error *err) {
  while (n > 0) {
    ssize_t done = write(m->fd[which], text, n);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0)
      return trt_fail(err, "%s: cannot write: %s; free some space or choose another --out", m->path[which],
                      strerror(errno));
    text += done;
    n -= (size_t)done;
  }
  return true;
}

/* The step of a line, -1 if it has none (the CSV's head). */
static int64_t line_step(const char *line) {
  const char *json = "{\"step\":";
  if (strncmp(line, json, strlen(json)) == 0) line += strlen(json);
  char *end;
  long long step = strtoll(line, &end, 10);
  return end == line ? -1 : step;
}

/* Bytes of the lines that a run at `position` has logged. A line torn by a crash goes, and so does everything after it. */
static uint64_t kept_bytes(const char *text, uint64_t size, const trt_position *position) {
  int64_t last = position->eval_pending ? position->step - 1 : position->step;
  uint64_t kept = 0;
  while (kept < size) {
    const char *end = memchr(text + kept, '\n', size - kept);
    if (!end || line_step(text + kept) > last) break;
    kept = (uint64_t)(end - text) + 1;
  }
  return kept;
}

static bool open_one(trt_metrics *m, int which, const trt_position *resume, trt_error *err) {
  uint64_t kept = 0;
  if (resume && trt_file_exists(m->path[which])) {
    uint8_t *bytes;
    uint64_t size;
    if (!trt_read_file(m->path[which], &bytes, &size, err)) return false;
    char *text = trt_alloc(size + 1); /* a zero byte behind it, for strtoll */
    memcpy(text, bytes, size);
    kept = kept_bytes(text, size, resume);
    free(bytes);
    free(text);
  }
  m->fd[which] = open(m->path[which], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (m->fd[which] < 0 || ftruncate(m->fd[which], (off_t)kept) != 0) {
    return trt_fail(err, "%s: cannot write: %s; choose another --out", m->path[which], strerror(errno));
  }
  return which == 0 || kept > 0 || put(m, which, csv_head, sizeof csv_head - 1, err);
}

bool trt_metrics_open(trt_metrics *m, const char *folder, const trt_position *resume, trt_error *err) {
  static const char *const names[] = {"metrics.jsonl", "metrics.csv"};
  m->fd[0] = m->fd[1] = -1;
  for (int i = 0; i < 2; i++) {
    if (trt_join(m->path[i], sizeof m->path[i], folder, names[i], err) && open_one(m, i, resume, err)) continue;
    trt_metrics_close(m);
    return false;
  }
  return true;
}

bool trt_metrics_log(trt_metrics *m, const trt_metrics_line *l, trt_error *err) {
  const double values[] = {l->epoch, l->loss, l->lr, l->grad_norm, l->images_per_s, l->test_loss, l->test_acc};
  static const char *const names[] = {"epoch", "loss", "lr", "grad_norm", "images_per_s", "test_loss", "test_acc"};
  char json[512], csv[512];
  int j = snprintf(json, sizeof json, "{\"step\":%" PRId64, l->step);
  int c = snprintf(csv, sizeof csv, "%" PRId64, l->step);
  for (int i = 0; i < 7; i++) { /* absent: no key in JSON, nothing between commas in CSV */
    bool there = isfinite(values[i]);
    if (there) j += snprintf(json + j, sizeof json - (size_t)j, ",\"%s\":%.9g", names[i], values[i]);
    c += snprintf(csv + c, sizeof csv - (size_t)c, ",");
    if (there) c += snprintf(csv + c, sizeof csv - (size_t)c, "%.9g", values[i]);
  }
  j += snprintf(json + j, sizeof json - (size_t)j, "}\n");
  c += snprintf(csv + c, sizeof csv - (size_t)c, "\n");
  return put(m, 0, json, (size_t)j, err) && put(m, 1, csv, (size_t)c, err);
}

void trt_metrics_close(trt_metrics *m) {
  for (int i = 0; i < 2; i++) {
    if (m->fd[i] >= 0) close(m->fd[i]);
    m->fd[i] = -1;
  }
}
