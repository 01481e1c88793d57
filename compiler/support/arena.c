/* Arena and vector storage. */
#include "compiler/support/arena.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "compiler/support/vec.h"

enum { BLOCK_BYTES = 64 * 1024 };

typedef struct block {
  struct block *next;
  size_t used, size;
  unsigned char *data;
} block;

struct tt_arena {
  block *head;
};

static _Noreturn void out_of_memory(size_t bytes) {
  fprintf(stderr, "tetrac: error: out of memory (asked for %zu bytes)\n", bytes);
  exit(1);
}

tt_arena *tt_arena_create(void) {
  tt_arena *arena = calloc(1, sizeof *arena);
  if (!arena) out_of_memory(sizeof *arena);
  return arena;
}

void tt_arena_destroy(tt_arena *arena) {
  if (!arena) return;
  for (block *b = arena->head, *next; b; b = next) {
    next = b->next;
    free(b->data);
    free(b);
  }
  free(arena);
}

static block *add_block(tt_arena *arena, size_t need) {
  size_t size = need > BLOCK_BYTES ? need : BLOCK_BYTES;
  block *b = malloc(sizeof *b);
  if (!b || size + 64 < size) out_of_memory(size);
  b->data = calloc(1, size + 64);
  if (!b->data) out_of_memory(size);
  b->size = size + 64;
  b->used = 0;
  /* A block for one big allocation goes behind the current one, whose room is still good for small ones. */
  if (arena->head && need > BLOCK_BYTES / 4) {
    b->next = arena->head->next;
    arena->head->next = b;
  } else {
    b->next = arena->head;
    arena->head = b;
  }
  return b;
}

static void *take(block *b, size_t bytes, size_t align) {
  uintptr_t base = (uintptr_t)b->data;
  uintptr_t at = (base + b->used + align - 1) & ~(uintptr_t)(align - 1);
  if (at - base > b->size || bytes > b->size - (size_t)(at - base)) return NULL;
  b->used = (size_t)(at - base) + bytes;
  return (void *)at;
}

void *tt_arena_alloc(tt_arena *arena, size_t bytes) {
  size_t align = bytes >= 64 ? 64 : 16;
  if (bytes == 0) bytes = 1;
  void *p = arena->head ? take(arena->head, bytes, align) : NULL;
  if (p) return p;
  p = take(add_block(arena, bytes), bytes, align);
  if (!p) out_of_memory(bytes);
  return p;
}

void *tt_arena_copy(tt_arena *arena, const void *src, size_t bytes) {
  void *p = tt_arena_alloc(arena, bytes);
  if (bytes) memcpy(p, src, bytes);
  return p;
}

char *tt_arena_strn(tt_arena *arena, const char *s, size_t n) {
  char *p = tt_arena_alloc(arena, n + 1);
  if (n) memcpy(p, s, n);
  return p;
}

char *tt_arena_str(tt_arena *arena, const char *s) { return tt_arena_strn(arena, s, strlen(s)); }

char *tt_arena_printf(tt_arena *arena, const char *fmt, ...) {
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  char *p = tt_arena_alloc(arena, (size_t)(n < 0 ? 0 : n) + 1);
  if (n > 0) vsnprintf(p, (size_t)n + 1, fmt, again);
  va_end(again);
  return p;
}

void *tt_vec_grow(void *data, size_t *capacity, size_t need, size_t item_bytes) {
  if (need <= *capacity) return data;
  size_t n = *capacity ? *capacity * 2 : 16;
  if (n < need) n = need;
  if (n > SIZE_MAX / item_bytes) out_of_memory(SIZE_MAX);
  void *p = realloc(data, n * item_bytes);
  if (!p) out_of_memory(n * item_bytes);
  *capacity = n;
  return p;
}

void tt_vec_release(void *data) { free(data); }
