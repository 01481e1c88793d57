/* A string map with open addressing: the names of a graph's values, thousands of them, looked up a few times each. */
#include <string.h>
#include "compiler/onnx/model.h"

static size_t hash(const char *s) {
  uint64_t h = 1469598103934665603u; // FNV-1a
  for (; *s; s++) h = (h ^ (uint8_t)*s) * 1099511628211u;
  return (size_t)(h ^ (h >> 29));
}

/* The slot of key, or the empty slot where it would go. Capacity is a power of two and never full. */
static size_t slot(const names *m, const char *key) {
  size_t i = hash(key) & (m->capacity - 1);
  while (m->key[i] && strcmp(m->key[i], key) != 0) i = (i + 1) & (m->capacity - 1);
  return i;
}

bool names_find(const names *m, const char *key, uint32_t *value) {
  if (!m->capacity) return false;
  size_t i = slot(m, key);
  if (!m->key[i]) return false;
  if (value) *value = m->value[i];
  return true;
}

static void grow(names *m, tt_arena *arena) {
  names old = *m;
  m->capacity = old.capacity ? old.capacity * 2 : 64;
  m->key = TT_NEW_N(arena, const char *, m->capacity);
  m->value = TT_NEW_N(arena, uint32_t, m->capacity);
  for (size_t i = 0; i < old.capacity; i++) {
    if (!old.key[i]) continue;
    size_t at = slot(m, old.key[i]);
    m->key[at] = old.key[i];
    m->value[at] = old.value[i];
  }
}

void names_set(names *m, tt_arena *arena, const char *key, uint32_t value) {
  if (2 * (m->count + 1) > m->capacity) grow(m, arena);
  size_t i = slot(m, key);
  if (!m->key[i]) m->count++;
  m->key[i] = key;
  m->value[i] = value;
}
