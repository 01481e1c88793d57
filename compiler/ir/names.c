/* Open addressing with linear probing over FNV-1a hashes, at most half full. */
#include <string.h>
#include "compiler/ir/names.h"

static size_t hash(const char *key) {
  uint64_t h = UINT64_C(0xcbf29ce484222325);
  for (; *key; key++) h = (h ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
  return (size_t)(h ^ h >> 29);
}

static tt_name *probe(const tt_names *names, const char *key) {
  size_t at = hash(key) & (names->slots - 1);
  while (names->slot[at].key && strcmp(names->slot[at].key, key) != 0) at = (at + 1) & (names->slots - 1);
  return &names->slot[at];
}

tt_name *tt_names_find(const tt_names *names, const char *key) {
  tt_name *n = names->slots ? probe(names, key) : NULL;
  return n && n->key ? n : NULL;
}

static void grow(tt_names *names) {
  tt_names bigger = {.slots = names->slots ? names->slots * 2 : 64, .count = names->count};
  size_t capacity = 0;
  bigger.slot = tt_vec_grow(NULL, &capacity, bigger.slots, sizeof *bigger.slot);
  memset(bigger.slot, 0, bigger.slots * sizeof *bigger.slot);
  for (size_t i = 0; i < names->slots; i++) {
    if (names->slot[i].key) *probe(&bigger, names->slot[i].key) = names->slot[i];
  }
  tt_vec_release(names->slot);
  *names = bigger;
}

bool tt_names_add(tt_names *names, const char *key, uint32_t id) {
  if (2 * (names->count + 1) > names->slots) grow(names);
  tt_name *n = probe(names, key);
  if (n->key) return false;
  *n = (tt_name){key, id};
  names->count++;
  return true;
}

void tt_names_free(tt_names *names) {
  tt_vec_release(names->slot);
  *names = (tt_names){0};
}
