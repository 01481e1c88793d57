/* Strings under construction, and whole files in and out. */
#include "compiler/support/strbuf.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "compiler/support/vec.h"

static void need(tt_strbuf *sb, size_t more) {
  sb->data = tt_vec_grow(sb->data, &sb->capacity, sb->count + more + 1, 1);
}

void tt_strbuf_append(tt_strbuf *sb, const char *bytes, size_t n) {
  need(sb, n);
  if (n) memcpy(sb->data + sb->count, bytes, n);
  sb->count += n;
  sb->data[sb->count] = 0;
}

void tt_strbuf_printf(tt_strbuf *sb, const char *fmt, ...) {
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  if (n >= 0) {
    need(sb, (size_t)n);
    vsnprintf(sb->data + sb->count, (size_t)n + 1, fmt, again);
    sb->count += (size_t)n;
  }
  va_end(again);
}

void tt_strbuf_free(tt_strbuf *sb) {
  tt_vec_release(sb->data);
  *sb = (tt_strbuf){0};
}

/* `most`, and for what may have no end. */
static char *read_at_most(tt_arena *arena, const char *path, size_t most, size_t most_special, size_t *bytes) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  struct stat st;
  if (fstat(fileno(f), &st) != 0 || S_ISDIR(st.st_mode)) {
    int err = S_ISDIR(st.st_mode) ? EISDIR : errno;
    fclose(f);
    errno = err;
    return NULL;
  }
  char *text = NULL;
  size_t n = 0;
  if (S_ISREG(st.st_mode)) {
    n = (size_t)st.st_size;
    text = n <= most ? tt_arena_alloc(arena, n + 1) : NULL;
    if (text) n = fread(text, 1, n, f);
  } else {
    tt_strbuf sb = {0};
    char chunk[4096];
    for (size_t k; sb.count <= most_special && (k = fread(chunk, 1, sizeof chunk, f)) > 0;) tt_strbuf_append(&sb, chunk, k);
    n = sb.count;
    if (n <= most_special) text = tt_arena_strn(arena, sb.data ? sb.data : "", n);
    tt_strbuf_free(&sb);
  }
  int failed = ferror(f);
  fclose(f);
  if (failed || !text) {
    errno = failed ? EIO : EFBIG;
    return NULL;
  }
  *bytes = n;
  return text;
}

char *tt_read_small_file(tt_arena *arena, const char *path, size_t most, size_t *bytes) {
  return read_at_most(arena, path, most, most, bytes);
}

char *tt_read_file(tt_arena *arena, const char *path, size_t *bytes) {
  return read_at_most(arena, path, SIZE_MAX, (size_t)1 << 31, bytes);
}

static bool write_all(int fd, const char *p, size_t n) {
  while (n > 0) {
    ssize_t k = write(fd, p, n > (1u << 30) ? (1u << 30) : n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return false;
    p += k;
    n -= (size_t)k;
  }
  return true;
}

/* A device or a pipe is written, never replaced. */
static bool write_special(const char *path, const void *data, size_t bytes) {
  int fd = open(path, O_WRONLY);
  if (fd < 0) return false;
  bool ok = write_all(fd, data, bytes);
  int err = errno;
  if (close(fd) != 0 && ok) return false;
  errno = err;
  return ok;
}

bool tt_write_file(const char *path, const void *data, size_t bytes) {
  struct stat st;
  if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) return write_special(path, data, bytes);
  tt_strbuf temp = {0};
  tt_strbuf_printf(&temp, "%s.tmp%ld", path, (long)getpid());
  int fd = open(temp.data, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  bool ok = fd >= 0 && write_all(fd, data, bytes) && fsync(fd) == 0;
  int err = errno;
  if (fd >= 0 && close(fd) != 0 && ok) ok = false, err = errno;
  if (ok && rename(temp.data, path) != 0) ok = false, err = errno;
  if (!ok && fd >= 0) unlink(temp.data);
  tt_strbuf_free(&temp);
  errno = err;
  return ok;
}
