#include "file.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const char *advice(int code) {
  switch (code) {
  case ENOSPC:
  case EDQUOT:
  case EFBIG: return "free some space or write elsewhere";
  case EACCES:
  case EPERM:
  case EROFS: return "check the permissions or write elsewhere";
  case ENOENT:
  case ENOTDIR: return "check the path";
  default: return "check the file and its folder";
  }
}

static bool give_up(trt_writer *writer, const char *what, trt_error *err) {
  int code = errno;
  if (writer->fd >= 0) close(writer->fd);
  writer->fd = -1;
  if (!writer->direct) unlink(writer->temporary);
  return trt_fail(err, "%s: cannot %s: %s; %s", writer->path, what, strerror(code), advice(code));
}

bool trt_writer_open(trt_writer *writer, const char *path, trt_error *err) {
  writer->fd = -1;
  if (strlen(path) >= sizeof writer->path)
    return trt_fail(err, "%.64s...: the path is too long; choose a shorter one", path);
  strcpy(writer->path, path);
  struct stat st;
  bool there = stat(path, &st) == 0;
  if (there && S_ISDIR(st.st_mode)) return trt_fail(err, "%s: is a folder; give the name of a file to write", path);
  writer->direct = there && !S_ISREG(st.st_mode);
  snprintf(writer->temporary, sizeof writer->temporary, "%s%s", path, writer->direct ? "" : ".tmp");
  writer->fd = open(writer->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (writer->fd < 0) return trt_fail(err, "%s: cannot write: %s; %s", path, strerror(errno), advice(errno));
  return true;
}

bool trt_writer_put(trt_writer *writer, const void *bytes, uint64_t n, trt_error *err) {
  const uint8_t *p = bytes;
  while (n > 0) {
    size_t piece = n < (1u << 30) ? (size_t)n : (size_t)1 << 30;
    ssize_t done = write(writer->fd, p, piece);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return give_up(writer, "write", err);
    p += done;
    n -= (uint64_t)done;
  }
  return true;
}

/* A rename is on disk only when its folder is. Some file systems refuse to fsync a folder; they order renames themselves.
 */
static void sync_folder(const char *path) {
  char copy[4096];
  snprintf(copy, sizeof copy, "%s", path);
  int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)fsync(fd);
  close(fd);
}

bool trt_writer_commit(trt_writer *writer, trt_error *err) {
  if (!writer->direct && fsync(writer->fd) != 0) return give_up(writer, "write to disk", err);
  int fd = writer->fd;
  writer->fd = -1;
  if (close(fd) != 0) return give_up(writer, "close", err);
  if (writer->direct) return true;
  if (rename(writer->temporary, writer->path) != 0) return give_up(writer, "rename into place", err);
  sync_folder(writer->path);
  return true;
}

bool trt_read_file(const char *path, uint8_t **bytes, uint64_t *size, trt_error *err) {
  *bytes = NULL;
  *size = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return trt_fail(err, "%s: cannot open: %s; %s", path, strerror(errno), advice(errno));
  struct stat st;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    close(fd);
    return trt_fail(err, "%s: is not a regular file; check the path", path);
  }
  uint64_t want = (uint64_t)st.st_size, got = 0;
  uint8_t *data = malloc(want ? want : 1);
  while (data && got < want) {
    ssize_t n = read(fd, data + got, want - got);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    got += (uint64_t)n;
  }
  close(fd);
  if (!data) return trt_fail(err, "%s: no memory for its %llu bytes", path, (unsigned long long)want);
  if (got < want) {
    free(data);
    return trt_fail(err, "%s: cannot read past byte %llu; check the disk", path, (unsigned long long)got);
  }
  *bytes = data;
  *size = got;
  return true;
}

bool trt_read_gz(const char *path, uint64_t limit, uint8_t **bytes, uint64_t *size, trt_error *err) {
  *bytes = NULL;
  *size = 0;
  gzFile gz = gzopen(path, "rb");
  if (!gz) return trt_fail(err, "%s: cannot open: %s; %s", path, strerror(errno), advice(errno));
  /* Grow as the data comes: the limit is what a header claims, and headers lie. */
  uint64_t capacity = 0, got = 0;
  uint8_t *data = NULL;
  int n = 0;
  do {
    if (got == capacity) {
      capacity = capacity ? capacity * 2 : 1u << 20;
      uint8_t *grown = realloc(data, capacity);
      if (!grown) {
        free(data);
        gzclose_r(gz);
        return trt_fail(err, "%s: no memory for its data", path);
      }
      data = grown;
    }
    uint64_t room = capacity - got < limit - got ? capacity - got : limit - got;
    n = gzread(gz, data + got, room < (1u << 30) ? (unsigned)room : 1u << 30);
    if (n > 0) got += (uint64_t)n;
  } while (n > 0 && got < limit);
  int code = Z_OK;
  const char *why = gzerror(gz, &code);
  bool ok = n >= 0 && code == Z_OK;
  if (!ok) {
    bool cut = code == Z_BUF_ERROR;
    trt_fail(err, "%s: %s after %llu bytes; fetch the file again", path, cut ? "is cut short" : why,
             (unsigned long long)got);
  }
  gzclose_r(gz);
  if (!ok) {
    free(data);
    return false;
  }
  *bytes = data;
  *size = got;
  return true;
}

bool trt_file_exists(const char *path) {
  struct stat st;
  return stat(path, &st) == 0;
}

bool trt_same_file(const char *a, const char *b) {
  struct stat x, y;
  return stat(a, &x) == 0 && stat(b, &y) == 0 && S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool trt_join(char *out, size_t size, const char *folder, const char *name, trt_error *err) {
  size_t n = strlen(folder);
  const char *slash = n > 0 && folder[n - 1] == '/' ? "" : "/";
  int len = snprintf(out, size, "%s%s%s", folder, slash, name);
  if (len < 0 || (size_t)len >= size) return trt_fail(err, "%.64s...: the path is too long; choose a shorter one", folder);
  return true;
}
