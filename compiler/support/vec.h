/* Growable arrays: TT_VEC(type) v = {0}; tt_vec_push(&v, x); v.data[i], v.count. Heap-backed; tt_vec_free when done. */
#ifndef TT_VEC_H
#define TT_VEC_H
#include <stddef.h>

#define TT_VEC(type)                                                                                                       \
  struct {                                                                                                                 \
    type *data;                                                                                                            \
    size_t count, capacity;                                                                                                \
  }
void *tt_vec_grow(void *data, size_t *capacity, size_t need, size_t item_bytes);
void tt_vec_release(void *data);
#define tt_vec_reserve(v, n) ((v)->data = tt_vec_grow((v)->data, &(v)->capacity, (n), sizeof *(v)->data))
#define tt_vec_push(v, item) (tt_vec_reserve(v, (v)->count + 1), (v)->data[(v)->count++] = (item))
#define tt_vec_free(v) (tt_vec_release((v)->data), (v)->data = NULL, (v)->count = (v)->capacity = 0)
#endif
