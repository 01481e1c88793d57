/* A growing string for printers, and whole-file reading and writing. */
#ifndef TT_STRBUF_H
#define TT_STRBUF_H
#include <stdbool.h>
#include <stddef.h>
#include "compiler/support/arena.h"

/* Always NUL-terminated once anything was appended; start from {0}. */
typedef struct tt_strbuf {
  char *data;
  size_t count, capacity;
} tt_strbuf;
void tt_strbuf_printf(tt_strbuf *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tt_strbuf_append(tt_strbuf *sb, const char *bytes, size_t n);
void tt_strbuf_free(tt_strbuf *sb);

/* Reads a whole file into arena memory with a NUL behind it; NULL on failure with errno set. More than `most` bytes are EFBIG,
 * and without that more than 2 GiB of what may have no end: a device, a pipe. */
char *tt_read_file(tt_arena *arena, const char *path, size_t *bytes);
char *tt_read_small_file(tt_arena *arena, const char *path, size_t most, size_t *bytes);
/* Writes atomically: a temporary beside `path`, synced, renamed over it. False with errno set; nothing is left behind.
 * What is there and no regular file (a device, a pipe) is written directly. */
bool tt_write_file(const char *path, const void *data, size_t bytes);
#endif
