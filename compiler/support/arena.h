/* Arenas: with vec.h and strbuf.h the only place that calls malloc and free. Memory lives until tt_arena_destroy. */
#ifndef TT_ARENA_H
#define TT_ARENA_H
#include <stddef.h>

typedef struct tt_arena tt_arena;

tt_arena *tt_arena_create(void);
void tt_arena_destroy(tt_arena *arena); /* NULL is allowed */
/* Zeroed memory, aligned to 64 bytes for blocks of 64 bytes and more, else to 16. Never NULL, nor are the copies below:
 * exhaustion ends the program with a message. */
void *tt_arena_alloc(tt_arena *arena, size_t bytes);
void *tt_arena_copy(tt_arena *arena, const void *src, size_t bytes);
char *tt_arena_str(tt_arena *arena, const char *s);
char *tt_arena_strn(tt_arena *arena, const char *s, size_t n); /* its first n bytes, and a NUL behind them */
char *tt_arena_printf(tt_arena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define TT_NEW(arena, type) ((type *)tt_arena_alloc(arena, sizeof(type)))
#define TT_NEW_N(arena, type, n) ((type *)tt_arena_alloc(arena, sizeof(type) * (size_t)(n)))
#endif
