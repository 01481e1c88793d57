/* A map from strings to ids, private to compiler/ir. Start from {0}; keys are not copied. */
#ifndef TT_NAMES_H
#define TT_NAMES_H
#include <stdbool.h>
#include <stdint.h>
#include "compiler/support/vec.h"

typedef struct tt_name {
  const char *key; /* NULL: a free slot */
  uint32_t id;
} tt_name;
typedef struct tt_names {
  tt_name *slot;
  size_t slots, count; /* slots is 0 or a power of two */
} tt_names;

/* The entry of a key, or NULL. Valid until the next tt_names_add. */
tt_name *tt_names_find(const tt_names *names, const char *key);
/* False, and nothing changes, where the key is there already. */
bool tt_names_add(tt_names *names, const char *key, uint32_t id);
void tt_names_free(tt_names *names);
#endif
