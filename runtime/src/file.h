/* Files that are either whole or absent: an output is written beside its name and renamed over it when it is on disk. */
#ifndef TRT_FILE_H
#define TRT_FILE_H
#include "support.h"

typedef struct trt_writer {
  char path[4096], temporary[4096 + 8];
  int fd;
  bool direct; /* the path is a device or pipe: written straight, no rename */
} trt_writer;

/* Opens `path`.tmp for writing. */
bool trt_writer_open(trt_writer *writer, const char *path, trt_error *err);
bool trt_writer_put(trt_writer *writer, const void *bytes, uint64_t n, trt_error *err);
/* Flushes to disk, renames over the path, flushes the folder. On any failure of put or commit the temporary file is gone
 * and what was at the path before is untouched. */
bool trt_writer_commit(trt_writer *writer, trt_error *err);

/* Reads a whole regular file; the caller frees *bytes. */
bool trt_read_file(const char *path, uint8_t **bytes, uint64_t *size, trt_error *err);
/* Reads at most `limit` bytes of a plain or gzip file; *size < limit means the file ended. The caller frees *bytes. */
bool trt_read_gz(const char *path, uint64_t limit, uint8_t **bytes, uint64_t *size, trt_error *err);
bool trt_file_exists(const char *path);
bool trt_same_file(const char *a, const char *b); /* one file on disk, by whatever names */
/* Joins folder and name into out[size]; an over-long path is an error. */
bool trt_join(char *out, size_t size, const char *folder, const char *name, trt_error *err);
#endif
