#include "lines.h"
#include "file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool trt_lines_put(trt_lines *l, const char *text, size_t n, trt_error *err) {
  while (n > 0) {
    ssize_t done = write(l->fd, text, n);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0)
      return trt_fail(err, "%s: cannot write: %s; free some space or choose another --out", l->path, strerror(errno));
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

bool trt_lines_open(trt_lines *l, const char *folder, const char *name, const char *head, const trt_position *resume,
                    trt_error *err) {
  uint64_t kept = 0;
  l->fd = -1;
  if (!trt_join(l->path, sizeof l->path, folder, name, err)) return false;
  if (resume && trt_file_exists(l->path)) {
    uint8_t *bytes;
    uint64_t size;
    if (!trt_read_file(l->path, &bytes, &size, err)) return false;
    char *text = trt_alloc(size + 1); /* a zero byte behind it, for strtoll */
    memcpy(text, bytes, size);
    kept = kept_bytes(text, size, resume);
    free(bytes);
    free(text);
  }
  l->fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (l->fd < 0 || ftruncate(l->fd, (off_t)kept) != 0) {
    return trt_fail(err, "%s: cannot write: %s; choose another --out", l->path, strerror(errno));
  }
  return !head || kept > 0 || trt_lines_put(l, head, strlen(head), err);
}

void trt_lines_close(trt_lines *l) {
  if (l->fd >= 0) close(l->fd);
  l->fd = -1;
}
