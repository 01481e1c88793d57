#include "support.h"
#include "runtime/include/trt_abi.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

bool trt_fail(trt_error *err, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(err->text, sizeof err->text, format, args);
  va_end(args);
  for (char *p = err->text; *p; p++) {
    if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
  }
  return false;
}

int trt_report(const trt_error *err) {
  fprintf(stderr, "trainer: error: %s\n", err->text);
  return 1;
}

void trt_note(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("trainer: note: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
}

void *trt_alloc(size_t bytes) {
  void *p = calloc(1, bytes ? bytes : 1);
  assert(p && "out of memory");
  return p;
}

uint8_t *trt_alloc_tensors(uint64_t bytes) {
  const uint64_t huge = UINT64_C(2) << 20;
  uint64_t align = bytes >= huge ? huge : TRT_ALIGN;
  if (bytes > UINT64_MAX / 2) return NULL;
  uint64_t size = (bytes + align - 1) / align * align;
  if (size == 0) size = align;
  uint8_t *p = aligned_alloc(align, size);
  if (!p) return NULL;
#ifdef MADV_HUGEPAGE
  if (align == huge) (void)madvise(p, size, MADV_HUGEPAGE); /* a wish; small pages do as well */
#endif
  return p;
}

void trt_forget(const void *data, uint64_t bytes) {
#ifdef MADV_DONTNEED
  long page = sysconf(_SC_PAGESIZE);
  uintptr_t unit = page > 0 ? (uintptr_t)page : 4096;
  uintptr_t begin = ((uintptr_t)data + unit - 1) / unit * unit, end = ((uintptr_t)data + bytes) / unit * unit;
  if (begin < end) (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
#else
  (void)data;
  (void)bytes;
#endif
}

void trt_text_add(trt_text *text, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, args);
  va_end(args);
  assert(n >= 0 && "bad format");
  size_t need = text->size + (size_t)n + 1;
  if (need > text->capacity) {
    text->capacity = need * 2;
    text->data = realloc(text->data, text->capacity);
    assert(text->data && "out of memory");
  }
  vsnprintf(text->data + text->size, (size_t)n + 1, format, again);
  va_end(again);
  text->size += (size_t)n;
}

void trt_text_add_json(trt_text *text, const char *string) {
  trt_text_add(text, "\"");
  for (const char *p = string; *p; p++) {
    unsigned char c = (unsigned char)*p;
    if (c == '"' || c == '\\')
      trt_text_add(text, "\\%c", c);
    else if (c == '\n')
      trt_text_add(text, "\\n");
    else if (c < 0x20)
      trt_text_add(text, "\\u%04x", c);
    else
      trt_text_add(text, "%c", c);
  }
  trt_text_add(text, "\"");
}

uint64_t trt_random_key(uint64_t seed, uint64_t stream) {
  return trt_mix(trt_mix(seed + TRT_GOLDEN) + TRT_GOLDEN * (stream + 1));
}

uint64_t trt_random(uint64_t seed, uint64_t stream, uint64_t counter) {
  return trt_random_of(trt_random_key(seed, stream), counter);
}

uint64_t trt_random_below(uint64_t bits, uint64_t n) { return (uint64_t)(((unsigned __int128)bits * n) >> 64); }

double trt_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
